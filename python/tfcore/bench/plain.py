"""What people write in NumPy: the tutorial's three functions as taught, and attention and a linear layer written well.

The same functions on float64 arrays are the results that all rivals are verified against.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Tutorial:
    """The code that `tfcore.drop_in` stands in for.

    >>> Tutorial.multi_head_attention(*[np.ones((3, 64))] * 3).shape
    (3, 64)
    """

    @staticmethod
    def self_attention(query: Array, key: Array, value: Array) -> Array:
        scores = np.dot(query, key.T) / np.sqrt(key.shape[1])  # this makes float64 of float32 in NumPy 2
        weights = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
        return np.asarray(np.dot(weights, value))

    @staticmethod
    def multi_head_attention(query: Array, key: Array, value: Array, num_heads: int = 8) -> Array:
        heads = [np.split(x, num_heads, axis=1) for x in (query, key, value)]
        return np.concatenate([Tutorial.self_attention(*h) for h in zip(*heads, strict=True)], axis=1)

    @staticmethod
    def positional_encoding(seq_len: int, d_model: int) -> Array:
        positions = np.arange(seq_len)[:, np.newaxis]
        angles = np.arange(d_model)[np.newaxis, :] / d_model
        angles = angles * np.power(10000, -2 * (angles // 2) / d_model)  # angles // 2 is 0: the exponent never acts
        encodings = np.zeros((seq_len, d_model))
        encodings[:, 0::2] = np.sin(positions * angles[:, 0::2])
        encodings[:, 1::2] = np.cos(positions * angles[:, 1::2])
        return encodings


def attention(query: Array, key: Array, value: Array, is_causal: bool = False) -> Array:
    """softmax(query @ key.T / sqrt(D)) @ value: (..., L, D), (..., S, D), (..., S, Dv) → (..., L, Dv), in their dtype.

    >>> attention(np.ones((8, 5, 64)), np.ones((8, 7, 64)), np.ones((8, 7, 32))).shape
    (8, 5, 32)
    """
    scores = query @ np.swapaxes(key, -1, -2)
    scores *= 1 / math.sqrt(query.shape[-1])
    if is_causal:
        scores[..., np.arange(scores.shape[-1]) > np.arange(scores.shape[-2])[:, None]] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return np.asarray(scores @ value)


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x @ weight.T + bias: (..., K), (N, K), (N,) → (..., N).

    >>> linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(4)).shape
    (2, 4)
    """
    result = x @ weight.T
    result += bias
    return np.asarray(result)
