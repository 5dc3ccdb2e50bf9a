"""What every layer is: arrays under names, layers under prefixes, and both loaded and saved under PyTorch's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from ..ops import PackedLinear
from ..scalars import shown
from .arrays import Array, as_array

Seed: TypeAlias = "int | np.random.Generator | None"


class Weight:
    """An attribute that holds one array of a layer. It is read-only and replaced as a whole, its shape kept."""

    def __set_name__(self, owner: type[Layer], name: str) -> None:
        self._name = name

    def __get__(self, layer: Layer | None, owner: type[Layer]) -> Any:
        return self if layer is None else layer._weights[self._name]

    def __set__(self, layer: Layer, value: Any) -> None:
        present = layer._weights.get(self._name)
        if present is None:
            raise ValueError(f"{type(layer).__name__} was made without {self._name}")
        fitted = _fit(value, present)
        if isinstance(fitted, str):
            raise ValueError(f"{self._name} {fitted}")
        layer._put(self._name, fitted)


class Layer:
    """The base of all layers.

    A subclass puts its arrays into `_weights` and names the layers it is built of in `_parts`. Products packed from the
    weights are kept in `_packings`, made when first needed and dropped when a weight is replaced.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        try:
            self.dtype = np.dtype(np.float32 if dtype is None else dtype)
        except (TypeError, ValueError):
            raise TypeError(f"dtype is {dtype!r}, expected float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype is {self.dtype}, expected float32 or float64")
        self._weights: dict[str, Array | None] = {}
        self._packings: dict[str, PackedLinear] = {}

    def state_dict(self, prefix: str = "") -> dict[str, Array]:
        """Copies of all weights under the names PyTorch gives them, each name behind `prefix`.

        >>> from tfcore import nn
        >>> {name: array.shape for name, array in nn.Linear(3, 4).state_dict("head.").items()}
        {'head.weight': (4, 3), 'head.bias': (4,)}
        """
        return {slot.name: slot.array.copy() for slot in self._slots(prefix)}

    def load_state_dict(self, state: Mapping[str, Any], prefix: str = "") -> None:
        """Replace all weights by those of `state`: NumPy arrays or CPU tensors, under the names PyTorch gives them.

        Values are copied into the layer's own dtype. Nothing is replaced unless everything fits.

        >>> from tfcore import nn
        >>> layer = nn.Linear(3, 4)
        >>> layer.load_state_dict({"weight": np.ones((4, 3)), "bias": np.zeros(4)})
        >>> layer(np.ones(3, np.float32)).tolist()
        [3.0, 3.0, 3.0, 3.0]

        Parameters
        ----------
        state : mapping of names to arrays
            As `state_dict()` of the layer of the same kind and sizes in `torch.nn` returns it.
        prefix : str
            Only names that begin so are read, and the rest of the name counts: "transformer." where the state is that
            of a larger module.

        Raises
        ------
        TypeError
            `state` is no mapping.
        ValueError
            Names are missing or unexpected, or arrays are of another shape or kind. The message lists all of them.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state is of type {type(state).__name__}, expected a mapping of names to arrays")
        if not isinstance(prefix, str):
            raise TypeError(f"prefix is {shown(prefix)}, expected a string")
        slots = {slot.name: slot for slot in self._slots(prefix)}
        given = {name: value for name, value in state.items() if str(name).startswith(prefix)}
        faults = [
            f"{name!r} is missing, expected shape {slots[name].array.shape}" for name in slots if name not in given
        ]
        faults += [f"{name!r} is unexpected" for name in given if name not in slots]
        fitted = {name: _fit(given[name], slot.array) for name, slot in slots.items() if name in given}
        faults += [f"{name!r} {fault}" for name, fault in fitted.items() if isinstance(fault, str)]
        if faults:
            raise ValueError("\n".join([f"the state does not fit {self!r}:", *faults, *_advice(slots, state)]))
        for name, array in fitted.items():
            slots[name].put(array)

    def _parts(self) -> Mapping[str, Layer]:
        """The layers this one is built of, under the prefixes of their names."""
        return {}

    def _slots(self, prefix: str) -> Iterator[Slot]:
        for name, array in self._weights.items():
            if array is not None:
                yield Slot(prefix + name, self, name, array)
        for part_prefix, part in self._parts().items():
            yield from part._slots(prefix + part_prefix)

    def _put(self, name: str, array: Array) -> None:
        """Hold `array`, which nobody else does."""
        array = np.ascontiguousarray(array, self.dtype)
        array.flags.writeable = False  # a change in place would not reach what was packed
        self._weights[name] = array
        self._packings = {}  # a new one: what another thread is packing from the old weight goes into the old one

    def _put_optional(self, name: str, wanted: bool, make: Callable[[], Array]) -> None:
        if wanted:
            self._put(name, make())
        else:
            self._weights[name] = None

    def _packed(self, name: str, weight: Callable[[], tuple[Array, Array | None]]) -> PackedLinear:
        """The product packed from some weight and bias under a name of ours, made when first asked for."""
        packings = self._packings  # before the weight is read
        if name not in packings:
            packings[name] = PackedLinear(*weight())
        return packings[name]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_weights": dict(self._weights), "_packings": {}}  # copies and pickles pack again

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for name, array in self._weights.items():
            if array is not None:
                self._put(name, array)

    def __repr__(self) -> str:
        count = sum(slot.array.size for slot in self._slots(""))
        return f"{type(self).__name__}({self._sizes()}; {count:,} parameters)"

    def _sizes(self) -> str:
        return ""


class Slot(NamedTuple):
    """One weight in a tree of layers: its full name, the layer that holds it, its name there, and what is there."""

    name: str
    layer: Layer
    attribute: str
    array: Array

    def put(self, array: Any) -> None:
        self.layer._put(self.attribute, array)


def _advice(slots: Mapping[str, Slot], state: Mapping[str, Any]) -> list[str]:
    """The prefix to read `state` with, where that is all that is wrong with its names."""
    first = next(iter(slots), "")
    prefixes = [name.removesuffix(first) for name in map(str, state) if name.endswith(first) and name != first]
    fitting = [prefix for prefix in prefixes if all(prefix + name in state for name in slots)]
    return [f"its names fit with prefix={prefix!r}" for prefix in fitting]


def _fit(value: Any, present: Array) -> Array | str:
    """A copy of `value` to take the place of `present`, or what is wrong with it."""
    try:
        array = as_array("it", value)
    except TypeError as error:
        return f"cannot be read: {error}"
    if array.shape != present.shape:
        return f"has shape {array.shape}, expected {present.shape}"
    if array.dtype.kind != "f":
        return f"holds {array.dtype}, expected floats"
    with np.errstate(over="ignore"):
        copy = array.astype(present.dtype)
    if array.dtype.itemsize > copy.dtype.itemsize:
        lost = np.isfinite(array) & ~np.isfinite(copy)
        if lost.any():
            return f"holds {array[lost][0]}, too large for {copy.dtype}"
    return copy
