"""Keys and values of the past, kept so that a step computes only its own.

Room is reserved ahead and filled from the front, so a step appends without a copy of the past. Attention sees keys at
their absolute positions, which makes a step's rows those of the full pass bit by bit.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np

from ..scalars import integer
from .arrays import Array, as_array


class KeyValues:
    """The keys and values one attention has seen: (B, G, S, D) and (B, G, S, Dv), with room for more.

    Attributes
    ----------
    length : int
        S, how many positions are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.length = 0
        self._capacity = capacity
        self._arrays: tuple[Array, ...] = ()

    @property
    def rows(self) -> int | None:
        """B, or None as long as nothing was kept."""
        return len(self._arrays[0]) if self._arrays else None

    @property
    def kept(self) -> tuple[Array, Array]:
        """Views of all keys and values so far."""
        keys, values = (array[:, :, : self.length] for array in self._arrays)
        return keys, values

    def append(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Keep keys and values (B, G, L, D) of L further positions; views of all so far.

        Raises
        ------
        ValueError
            They are not of the kind of those before: of another dtype, or another model's.
        """
        for kept, new in zip(self._arrays, (keys, values), strict=False):
            if _kind(new) != _kind(kept):
                raise ValueError(f"the cache keeps {_kind(kept)}; this step has {_kind(new)}")
        end = self.length + keys.shape[2]
        if not self._arrays or end > self._arrays[0].shape[2]:
            self._reserve(max(end, self._capacity, 2 * self.length), (keys, values))
        for kept, new in zip(self._arrays, (keys, values), strict=True):
            kept[:, :, self.length : end] = new
        self.length = end
        return self.kept

    def select(self, rows: Array) -> None:
        if not self._arrays:
            return
        if len(rows) == self.rows:
            for kept in self._arrays:
                kept[:, :, : self.length] = kept[rows, :, : self.length]
            return
        chosen = [kept[rows, :, : self.length] for kept in self._arrays]
        room, self._arrays = self._arrays[0].shape[2], ()
        self._reserve(room, chosen)
        for kept, array in zip(self._arrays, chosen, strict=True):
            kept[:, :, : self.length] = array

    def truncate(self, length: int) -> None:
        self.length = min(self.length, length)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": tuple(kept[:, :, : self.length].copy() for kept in self._arrays)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrays = tuple(np.require(kept, requirements="W") for kept in self._arrays)  # buffers may be read-only

    @contextmanager
    def step(self) -> Iterator[None]:
        """Positions are kept or not: what an error or Ctrl-C leaves half done is forgotten."""
        before = self.length, self._arrays
        try:
            yield
        except BaseException:
            self.length, self._arrays = before
            raise

    def _reserve(self, positions: int, like: Sequence[Array]) -> None:
        """Room for so many positions of arrays such as those of `like`, with what is kept at its front."""
        room = tuple(_room((*array.shape[:2], positions, array.shape[3]), array.dtype) for array in like)
        for new, kept in zip(room, self._arrays, strict=False):
            new[:, :, : self.length] = kept[:, :, : self.length]
        self._arrays = room


def _kind(array: Array) -> str:
    batch, heads, _, width = array.shape
    return f"{batch} sequences in {heads} heads of {width} in {array.dtype}"


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array whose memory comes page by page as it is written. That of np.empty would come whole, as huge pages."""
    bytes_needed = max(math.prod(shape) * dtype.itemsize, 1)
    try:
        memory = mmap.mmap(-1, bytes_needed, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError(f"no room for a cache of {bytes_needed} bytes, of shape {shape} in {dtype}") from None
    room: Array = np.ndarray(shape, dtype, memory)
    return room


class LayerCache:
    """What one layer keeps.

    Attributes
    ----------
    self_attn : KeyValues
        The keys and values of the sequence itself, which every step adds to.
    cross_attn : KeyValues
        Those of the memory, computed once.
    """

    def __init__(self, capacity: int) -> None:
        self.self_attn = KeyValues(capacity)
        self.cross_attn = KeyValues(0)

    @property
    def length(self) -> int:
        """How many positions of the sequence are kept."""
        return self.self_attn.length

    @property
    def rows(self) -> int | None:
        """How many sequences it is of; None as long as nothing was kept."""
        return self.self_attn.rows

    @property
    def memory_length(self) -> int | None:
        """How many positions the memory has; None as long as nothing was kept of it."""
        return None if self.cross_attn.rows is None else self.cross_attn.length

    @contextmanager
    def step(self) -> Iterator[None]:
        """Both keep what a step adds, or neither."""
        with self.self_attn.step(), self.cross_attn.step():
            yield


class KVCache:
    """Keys and values of the positions so far, given to every step of a decoder.

    A step with the cache gives, bit for bit, the rows that one call over all positions would give.

    >>> from tfcore import nn
    >>> decoder = nn.Decoder(nn.DecoderLayer(16, 4, 32), 2)
    >>> memory, tgt = np.ones((1, 7, 16), np.float32), np.ones((1, 5, 16), np.float32)
    >>> whole = decoder(tgt, memory, tgt_is_causal=True)
    >>> cache = nn.KVCache()
    >>> steps = [decoder(tgt[:, i : i + 1], memory, cache=cache) for i in range(5)]
    >>> np.array_equal(np.concatenate(steps, axis=1), whole), cache.length
    (True, 5)

    With a beam of hypotheses, `select` makes those that go on the rows of the cache:

    >>> cache.select([0, 0, 0])
    >>> decoder(np.ones((3, 1, 16), np.float32), cache=cache).shape
    (3, 1, 16)

    Parameters
    ----------
    capacity : int
        How many positions room is reserved for; beyond, it doubles. Room that is not used costs no memory.

    Attributes
    ----------
    length : int
        How many positions are kept.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._capacity = integer("capacity", capacity)
        self._layers: list[LayerCache] = []

    @property
    def length(self) -> int:
        return min((layer.length for layer in self._layers), default=0)

    @property
    def rows(self) -> int | None:
        """How many sequences it is of; None as long as nothing was kept."""
        return self._layers[0].rows if self._layers else None

    @property
    def memory_length(self) -> int | None:
        """How many positions the memory has; None as long as nothing was kept of it."""
        return self._layers[0].memory_length if self._layers else None

    def layer(self, number: int) -> LayerCache:
        """What layer `number`, from 0, keeps; for stacks of your own."""
        while len(self._layers) <= integer("number", number, 0):
            self._layers.append(LayerCache(self._capacity))
        return self._layers[number]

    def select(self, rows: Any) -> None:
        """Make the sequences of the numbers `rows`, (B,) integers, the rows of the cache: repeated, left out, moved.

        Raises
        ------
        TypeError
            `rows` are no integers.
        ValueError
            There is no such row, or nothing was kept yet.
        """
        chosen = as_array("rows", rows)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise TypeError(f"rows is an array of {chosen.dtype} and shape {chosen.shape}, expected integers (B,)")
        if self.rows is None:
            raise ValueError("the cache is empty: there are no rows to select")
        outside = (chosen < 0) | (chosen >= self.rows)
        if outside.any():
            raise ValueError(f"rows holds {chosen[outside][0]}, expected 0 to {self.rows - 1}")
        for part in self._parts():
            part.select(chosen.astype(np.intp))

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on: the next step continues there.

        What was kept of the memory stays, and a step looks at no other: for another one, take a new cache.

        >>> from tfcore import nn
        >>> nn.KVCache().truncate(0)
        """
        integer("length", length, 0)
        for layer in self._layers:
            layer.self_attn.truncate(length)

    @contextmanager
    def step(self, num_layers: int) -> Iterator[None]:
        """All layers of a stack take a step or none: what an error or Ctrl-C leaves half done is forgotten."""
        if all(part.rows is None for part in self._parts()):
            del self._layers[num_layers:]  # which somebody only looked at
        elif len(self._layers) != num_layers:
            raise ValueError(f"cache is that of {len(self._layers)} layers, expected {num_layers}")
        with ExitStack() as steps:
            for number in range(num_layers):
                steps.enter_context(self.layer(number).step())
            yield

    def _parts(self) -> Iterator[KeyValues]:
        for layer in self._layers:
            yield layer.self_attn
            yield layer.cross_attn

    def __repr__(self) -> str:
        return f"KVCache({self.rows} rows, {self.length} positions, {len(self._layers)} layers)"


def step_of(cache: KeyValues | LayerCache | None) -> AbstractContextManager[None]:
    """What a layer does within is a step of its cache, if it has one: all of it or none."""
    return nullcontext() if cache is None else cache.step()


_HOW: dict[type, str] = {
    KeyValues: "KVCache().layer(0).self_attn",
    LayerCache: "KVCache().layer(0)",
    KVCache: "KVCache()",
}


def expect_cache(cache: Any, kind: type) -> None:
    """Refuses all but None and what a stack, a layer or an attention keeps things in."""
    if cache is not None and not isinstance(cache, kind):
        raise TypeError(f"cache is of type {type(cache).__name__}, expected a {kind.__name__}, such as {_HOW[kind]}")


def check_cache(cache: KeyValues | LayerCache | KVCache | None, name: str, array: Array) -> int:
    """How many positions the cache keeps, for as many sequences as `array` (B, L, C) has."""
    if cache is None:
        return 0
    if cache.rows is not None and cache.rows != len(array):
        raise ValueError(f"{name} has {len(array)} sequences, but the cache has {cache.rows}")
    return cache.length
