"""Padded batches in, packed tokens for the core, padded arrays out.

A padded batch is (B, L) with a mask; packed, it is the T real tokens of all texts one after another, with
`cu_seqlens` (B + 1,) saying where each text begins. No work is done on padding, and no text sees another's.
Any mask will do: right padding, left padding, holes, a row of nothing. Of a hole the positions alone keep a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from .checkpoint import Float32Array
from .config import described

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PackedTokens:
    """T tokens of B texts, end to end: three arrays (T,) and the texts' borders (B + 1,).

    `seen` (B,) says how many of each text's first tokens are attended to, by all of its tokens; all, if it is None.
    `typed` says whether the caller gave token types.
    """

    input_ids: IntArray
    token_type_ids: IntArray
    position_ids: IntArray
    cu_seqlens: IntArray
    seen: IntArray | None = None
    typed: bool = False

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[Sequence[int] | IntArray],
        past: Sequence[int] | int = 0,
        types: Sequence[Sequence[int]] | None = None,
    ) -> PackedTokens:
        """Texts of token ids, each a segment of its own: token types 0 if not given, positions from `past` on."""
        lengths = np.array([len(text) for text in texts], np.int64)
        cu_seqlens = _borders(lengths)
        total = int(cu_seqlens[-1])
        first = cu_seqlens[:-1] - np.asarray(past, np.int64)
        return cls(
            input_ids=_chained(texts, total),
            token_type_ids=np.zeros(total, np.int64) if types is None else _chained(types, total),
            position_ids=np.arange(total, dtype=np.int64) - first.repeat(lengths),
            cu_seqlens=cu_seqlens,
        )

    def positions_between(self, padding: npt.NDArray[np.bool_]) -> IntArray:
        """(T,): each token's position in its text, where those of `padding` (T,) are not counted and have -1."""
        return _count(~padding, np.repeat(self.cu_seqlens[:-1], self.lengths))

    @cached_property
    def lengths(self) -> IntArray:
        """How many tokens each text has."""
        return self.cu_seqlens[1:] - self.cu_seqlens[:-1]

    @property
    def text_lengths(self) -> IntArray:
        """(B,): how long each text is with what went before these tokens: the highest position plus one."""
        lengths: IntArray = np.zeros(len(self.cu_seqlens) - 1, np.int64)
        real = self.lengths > 0
        if real.any():
            lengths[real] = np.maximum.reduceat(self.position_ids, self.cu_seqlens[:-1][real]) + 1
        return lengths


@dataclass(frozen=True)
class PaddedBatch:
    """Which of the (B, L) columns are real: the way from padded to packed and back."""

    real: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, shape: tuple[int, ...], attention_mask: Any, name: str = "attention_mask") -> PaddedBatch:
        """A batch of that shape: all columns are real, if no mask is given. Errors are those of `mask`."""
        return cls(np.ones(shape, bool) if attention_mask is None else mask(name, attention_mask, shape))

    @cached_property
    def full(self) -> bool:
        """Whether there is no padding: then packing is a matter of shape alone."""
        return bool(self.real.all())

    @property
    def spans(self) -> IntArray:
        """(B,): how many columns there are from each text's first real one to its last."""
        spans: IntArray = np.zeros(len(self.real), np.int64)
        if self.real.size:
            last = self.real.shape[1] - self.real[:, ::-1].argmax(axis=1)
            spans[:] = (last - self.real.argmax(axis=1)) * self.real.any(axis=1)
        return spans

    @cached_property
    def positions(self) -> IntArray:
        """(B, L): columns counted from each text's first real one, so that padding on the left changes nothing."""
        columns = np.arange(self.real.shape[1])
        if self.full or not self.real.size:
            return np.repeat(columns[None], len(self.real), axis=0)
        positions: IntArray = np.maximum(columns - self.real.argmax(axis=1)[:, None], 0)
        return positions

    def positions_between(self, padding: npt.NDArray[np.bool_]) -> IntArray:
        """(B, L): the same, where columns of `padding` (B, L) are not counted and have position -1."""
        if not self.real.size:
            return self.positions
        rows, length = self.real.shape
        first = np.arange(rows) * length + self.real.argmax(axis=1)
        return _count(~padding.ravel(), np.repeat(first, length)).reshape(rows, length)

    def pack(self, input_ids: IntArray, token_type_ids: IntArray | None, position_ids: IntArray) -> PackedTokens:
        """Three arrays (B, L) without their masked columns; token types are 0 where none are given."""
        types = np.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        typed = token_type_ids is not None
        if self.full:
            rows, length = self.real.shape
            cu_seqlens = np.arange(rows + 1) * length
            return PackedTokens(input_ids.ravel(), types.ravel(), position_ids.ravel(), cu_seqlens, typed=typed)
        return PackedTokens(
            input_ids[self.real],
            types[self.real],
            position_ids[self.real],
            _borders(self.real.sum(axis=1)),
            typed=typed,
        )

    def unpack_tokens(self, packed: Float32Array) -> Float32Array:
        """(T, C) → (B, L, C), zeros where masked."""
        if self.full:
            return packed.reshape(*self.real.shape, packed.shape[-1])
        padded = np.zeros((*self.real.shape, packed.shape[-1]), packed.dtype)
        padded[self.real] = packed
        return padded

    def unpack_answers(self, packed: Float32Array) -> tuple[Float32Array, Float32Array]:
        """(T, 2) → twice (B, L), where masked the lowest number of their dtype: no argmax finds it."""
        padded = self.unpack_tokens(packed)
        padded[~self.real] = np.finfo(packed.dtype).min
        return padded[..., 0], padded[..., 1]

    def unpack_attention(self, packed: Float32Array, keys: PaddedBatch | None = None) -> Float32Array:
        """(B, H, M, N), each text's weights in the upper left corner → (B, H, L, S), zeros where masked.

        The queries are this batch's; so are the keys, if no other batch is given.
        """
        keys = keys or self
        if self.real.size and self.full and keys.full:
            return packed
        padded = np.zeros((*packed.shape[:2], self.real.shape[1], keys.real.shape[1]), packed.dtype)
        for weights, corner, row, key_row in zip(padded, packed, self.real, keys.real, strict=True):
            rows, columns = np.flatnonzero(row), np.flatnonzero(key_row)
            weights[:, rows[:, None], columns] = corner[:, : len(rows), : len(columns)]
        return padded


def _chained(rows: Iterable[Iterable[int]], total: int) -> IntArray:
    return np.fromiter(chain.from_iterable(rows), np.int64, total)


def _borders(lengths: npt.NDArray[Any]) -> IntArray:
    """Where texts of these lengths begin and end, packed."""
    borders = np.zeros(len(lengths) + 1, np.int64)
    lengths.cumsum(out=borders[1:])
    return borders


def _count(counted: npt.NDArray[np.bool_], first: IntArray) -> IntArray:
    """How many are `counted` before each token, from its text's `first` on; -1 for those that are not counted."""
    before = np.concatenate([[0], np.cumsum(counted)])
    return np.where(counted, before[:-1] - before[first], -1)


def integers(name: str, value: Any, shape: tuple[int, ...] | None = None) -> IntArray:
    """`value` (lists, a NumPy array, a CPU tensor) as int64 of two dimensions, broadcast to `shape` if given.

    Raises
    ------
    TypeError
        It does not hold integers.
    ValueError
        It is ragged, not two-dimensional, does not fit `shape`, or holds a number that int64 does not.
    """
    if isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}: pass **inputs")
    array = _as_array(name, value)
    _check_int64(name, array)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{name} holds {array.dtype}, expected integers")
    return _fit(name, array, shape).astype(np.int64)


def mask(name: str, value: Any, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """`value` as booleans of `shape`: 1 or True for a real token, 0 or False for padding.

    Raises
    ------
    TypeError
        It does not hold numbers or booleans.
    ValueError
        Its shape is another, or it holds anything but 0 and 1.
    """
    array = _fit(name, _as_array(name, value), shape)
    if array.size and array.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {array.dtype}, expected 0 and 1")
    real = np.not_equal(array, 0)
    wrong = array[real & (array != 1)]
    if wrong.size:
        raise ValueError(f"{name} holds {wrong[0]}, expected only 1 (a real token) and 0 (padding)")
    return np.asarray(real, bool)


def _check_int64(name: str, array: npt.NDArray[Any]) -> None:
    """Refuses integers beyond int64, which NumPy holds as uint64 or as objects."""
    for number in array.ravel().tolist() if array.dtype in (np.uint64, object) else ():
        if isinstance(number, int) and not -(1 << 63) <= number < 1 << 63:
            raise ValueError(f"{name} holds {described(number)}, expected integers of 64 bits")


def _as_array(name: str, value: Any) -> npt.NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(
            f"{name} is ragged, expected rows of one length: call the tokenizer with padding=True"
        ) from None


def _fit(name: str, array: npt.NDArray[Any], shape: tuple[int, ...] | None) -> npt.NDArray[Any]:
    if shape is None:
        if array.ndim != 2:
            raise ValueError(
                f"{name} has shape {array.shape}, expected (B, L): pass a single text as [ids], or call the tokenizer "
                'with return_tensors="np"'
            )
        return array
    if array.ndim > len(shape):
        raise ValueError(f"{name} has shape {array.shape}, expected {shape} as input_ids")
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape} as input_ids") from None
