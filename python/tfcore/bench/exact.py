"""Inputs, results in float64, and how far a rival may be from them.

Bounds: u is the unit round-off of the dtype, and a sum of n products may be off by 4·√n roundings of Σ|a||b| (the
strict count is n; errors drawn at random cancel).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from . import plain
from .plain import Array

__all__ = ["Hidden", "attention", "causal", "linear", "normal", "unit", "window"]

Float64 = NDArray[np.float64]
Hidden = Callable[[Array, Array], Array]  # positions of queries (n, 1) and of keys (S,) → True where hidden

_ROWS = 1024  # scores of so many queries exist at a time


def normal(*shape: int, dtype: DTypeLike = np.float32, seed: int) -> Array:
    """
    >>> normal(2, 3, seed=0).dtype
    dtype('float32')
    """
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def unit(dtype: DTypeLike) -> float:
    """The relative error of one rounding; twice that for float64, where what we compare with errs as much."""
    return float(np.finfo(dtype).eps) * (1.0 if np.dtype(dtype) == np.float64 else 0.5)


def causal(query: Array, key: Array) -> Array:
    """
    >>> causal(np.arange(2)[:, None], np.arange(3)).astype(int).tolist()
    [[0, 1, 1], [0, 0, 1]]
    """
    return np.asarray(key > query)


def window(left: int) -> Hidden:
    """Causal, and no further back than `left`.

    >>> window(1)(np.arange(3)[:, None], np.arange(3)).astype(int).tolist()
    [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
    """
    return lambda query, key: np.asarray((key > query) | (key < query - left))


def attention(q: Array, k: Array, v: Array, *, hidden: Hidden | None = None) -> tuple[Float64, float]:
    """(..., H, L, D) over (..., G, S, D): the result (..., H, L, D) and the error allowed.

    A score is off by 4·√D roundings of |q||k| / √D; its weight by twice that, as the row's sum moves too; sums over S
    keys of weights and of weights times values by 4·√S roundings each.
    """
    keys, size = k.shape[-2:]
    want = np.empty((*q.shape[:-1], v.shape[-1]))
    for head in np.ndindex(q.shape[:-2]):
        shared = (*head[:-1], head[-1] * k.shape[-3] // q.shape[-3]) if head else head
        key, value = (x[shared].astype(np.float64) for x in (k, v))
        for start in range(0, q.shape[-2], _ROWS):
            rows = slice(start, start + _ROWS)
            query = q[head][rows].astype(np.float64)
            unseen = hidden(start + np.arange(len(query))[:, None], np.arange(keys)) if hidden else None
            want[head][rows] = plain.attention(query, key, value, unseen)
    largest_score = _longest(q) * _longest(k) / math.sqrt(size)
    steps = 2 * (4 * math.sqrt(size) + 4) * largest_score + 8 * math.sqrt(keys) + 8
    return want, steps * unit(q.dtype) * float(np.abs(v).mean(axis=-2).max())


def _longest(x: Array) -> float:
    return float(np.sqrt(np.square(x).sum(axis=-1)).max(initial=0.0))


def linear(x: Array, weight: Array, bias: Array) -> tuple[Float64, Float64]:
    """x @ weight.T + bias, and the error allowed for each element."""
    wide = [array.astype(np.float64) for array in (x, weight, bias)]
    steps = 4 * math.sqrt(x.shape[-1]) + 2
    return plain.linear(*wide), steps * unit(x.dtype) * plain.linear(*(np.abs(array) for array in wide))
