"""The distributions fresh weights are drawn from: PyTorch's, from a seed.

The same seed gives the same weights everywhere. A seed may be a generator, from which several layers draw in turn.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..scalars import shown
from .arrays import Array
from .layer import Seed

DType = np.dtype[Any]


def generator(seed: Seed) -> np.random.Generator:
    """A generator as it is, or a new one.

    >>> generator(-1)
    Traceback (most recent call last):
    ValueError: seed is -1, expected a non-negative integer, a numpy.random.Generator or None
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        expected = "a non-negative integer, a numpy.random.Generator or None"
        raise type(error)(f"seed is {shown(seed)}, expected {expected}") from None


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float, dtype: DType) -> Array:
    """Evenly from -bound to bound."""
    drawn: Array = rng.random(shape, dtype)
    drawn *= 2 * bound
    drawn -= bound
    return drawn


def fan_in(rng: np.random.Generator, shape: tuple[int, ...], inputs: int, dtype: DType) -> Array:
    """A linear layer's weight or bias: evenly within 1 / sqrt(inputs) of zero."""
    return uniform(rng, shape, 1 / math.sqrt(inputs), dtype)


def xavier(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """A matrix (N, K) that keeps the variance of what goes through it, both ways (Glorot & Bengio 2010)."""
    return uniform(rng, shape, math.sqrt(6 / sum(shape)), dtype)


def normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float, dtype: DType) -> Array:
    drawn: Array = rng.standard_normal(shape, dtype)
    drawn *= deviation
    return drawn
