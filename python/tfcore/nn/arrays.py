"""The door of the layers: what callers give becomes batch-first arrays, and what goes back has the caller's layout.

Shapes are checked here by argument name, so that what lies further in need not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scalars import number

Array = NDArray[Any]


def as_array(name: str, value: Any) -> Array:
    """`value` as a NumPy array of real numbers: lists, NumPy arrays, what speaks DLPack, CPU tensors of PyTorch."""
    array = _convert(name, value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} is of type {_kind(value)}, expected an array of numbers")
    return array


def _convert(name: str, value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "detach"):  # a tensor: without its gradient, and bfloat16, which NumPy does not know, widened
            value = value.detach()
            value = value.float() if str(value.dtype).endswith("bfloat16") else value
        elif hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name} is of type {_kind(value)}, which does not become a NumPy array: {error}") from None


def _kind(value: Any) -> str:
    return f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


@dataclass(frozen=True)
class Layout:
    """How the caller lays out sequences: (B, L, C), (L, B, C) or, without a batch, (L, C)."""

    batched: bool
    batch_first: bool

    @classmethod
    def of(cls, array: Array, batch_first: bool) -> Layout:
        return cls(array.ndim == 3, batch_first)

    def enter(self, name: str, array: Array, width: int) -> Array:
        """The caller's sequences as (B, L, C).

        Raises
        ------
        ValueError
            They are not of this layout, or not `width` wide.
        """
        if array.ndim not in (2, 3) or (array.ndim == 3) is not self.batched or array.shape[-1] != width:
            raise ValueError(f"{name} has shape {array.shape}, expected {self._wanted(array.ndim, width)}")
        if not self.batched:
            return array[None]
        return array if self.batch_first else np.swapaxes(array, 0, 1)

    def leave(self, array: Array) -> Array:
        """(B, L, C) as the caller wants it."""
        if self.batched:
            return array if self.batch_first else np.ascontiguousarray(array.swapaxes(0, 1))
        alone: Array = array[0]
        return alone

    def _wanted(self, dimensions: int, width: int) -> str:
        batched = f"({'batch, length' if self.batch_first else 'length, batch'}, {width})"
        alone = f"(length, {width})"
        if dimensions not in (2, 3):
            return f"{batched}, or {alone} without a batch"
        return batched if self.batched else alone


def expect_rows(name: str, array: Array, rows: int, other: str) -> None:
    """The batch of `array` must be that of another argument."""
    if len(array) != rows:
        raise ValueError(f"{name} has {len(array)} sequences, expected {rows} as in {other}")


def expect_divides(name: str, value: int, of_name: str, of: int) -> None:
    if of % value:
        raise ValueError(f"{name} is {value}, expected a divisor of {of_name}, {of}")


def check_dropout(dropout: Any) -> None:
    """Refuses what is no probability; layers are for inference, where dropout does nothing."""
    number("dropout", dropout, 1)
