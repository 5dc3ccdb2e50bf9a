"""What the encoders' methods have in common: checks of arguments, and the forms that results are returned in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from ..models.batch_encoding import torch_tensor
from ..models.device import check_device
from ..scalars import half_a_pair, integer


def check_run(batch_size: int | None, device: Any) -> None:
    """Refuses what no call can run with."""
    check_device(device)
    if batch_size is not None:
        integer("batch_size", batch_size)


def several(name: str, value: Any, alone: bool, expected: str) -> tuple[Iterable[Any], int | None]:
    """What a call is given, one thing or several, as several, and how many, where that is known."""
    things = [value] if alone else check_iterable(name, value, expected)
    return things, len(things) if isinstance(things, Sized) else None


def check_iterable(name: str, value: Any, expected: str) -> Iterable[Any]:
    """Several of something, not one thing that happens to be iterable."""
    try:
        if not isinstance(value, str | bytes | Mapping) and not hasattr(value, "columns"):  # of a table, not of texts
            iter(value)
            return value  # type: ignore[no-any-return]
    except TypeError:
        pass
    raise TypeError(f"{name} is {type(value).__name__}, expected {expected}")


def check_prompt(name: str, value: Any) -> None:
    """Refuses all but text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}, expected a string")
    if half_a_pair(value):
        raise ValueError(f"{name} is {value!r}, which holds half of a surrogate pair")


def converted(array: npt.NDArray[Any], to_numpy: bool, to_tensor: bool) -> Any:
    """The array, or a CPU tensor of PyTorch on its memory, or the list of its rows."""
    if to_tensor:
        return torch_tensor(np.ascontiguousarray(array), "convert_to_tensor=True")
    return array if to_numpy else list(array)


def converted_item(item: Any) -> Any:
    """What there is of one text, an array or arrays by name, as tensors of PyTorch."""
    if isinstance(item, dict):
        return {name: converted(array, False, True) for name, array in item.items()}
    return converted(item, False, True)
