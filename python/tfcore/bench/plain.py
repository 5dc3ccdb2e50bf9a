"""What people write in NumPy: the tutorial's three functions as taught, and the operators written well.

The same functions on float64 arrays are the results that all rivals are verified against.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

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


def geometric_encoding(seq_len: int, d_model: int) -> Array:
    """The tutorial's positional_encoding with the frequencies that its formula was meant to have, in float32.

    >>> geometric_encoding(2, 4).round(3).tolist()[1]
    [0.8410000205039978, 0.5400000214576721, 0.009999999776482582, 1.0]
    """
    positions = np.arange(seq_len)[:, np.newaxis]
    columns = np.arange(d_model)[np.newaxis, :]
    angles = positions * np.power(10000.0, -2 * (columns // 2) / d_model)
    encodings = np.zeros((seq_len, d_model), np.float32)
    encodings[:, 0::2] = np.sin(angles[:, 0::2])
    encodings[:, 1::2] = np.cos(angles[:, 1::2])
    return encodings


def attention(query: Array, key: Array, value: Array, hidden: Array | None = None) -> Array:
    """softmax(query @ key.T / sqrt(D)) @ value: (..., L, D), (..., S, D), (..., S, Dv) → (..., L, Dv), in their dtype.

    `hidden` (L, S) is True where a query must not see a key.

    >>> attention(np.ones((8, 5, 64)), np.ones((8, 7, 64)), np.ones((8, 7, 32))).shape
    (8, 5, 32)
    """
    scores = query @ np.swapaxes(key, -1, -2)
    scores *= 1 / math.sqrt(query.shape[-1])
    if hidden is not None:
        scores[..., hidden] = -np.inf
    return np.asarray(softmax(scores, out=scores) @ value)


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x @ weight.T + bias: (..., K), (N, K), (N,) → (..., N).

    >>> linear(np.ones((2, 3)), np.ones((4, 3)), np.ones(4)).shape
    (2, 4)
    """
    result = x @ weight.T
    result += bias
    return np.asarray(result)


def softmax(x: Array, out: Array | None = None) -> Array:
    """
    >>> softmax(np.zeros((3, 4))).tolist()[0]
    [0.25, 0.25, 0.25, 0.25]
    """
    out = np.subtract(x, x.max(axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=-1, keepdims=True)
    return out


def log_softmax(x: Array) -> Array:
    """
    >>> log_softmax(np.zeros((1, 1))).tolist()
    [[0.0]]
    """
    below = x - x.max(axis=-1, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=-1, keepdims=True)))


def layer_norm(x: Array, weight: Array, bias: Array, *, eps: float = 1e-5) -> Array:
    """
    >>> layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    out = x - x.mean(axis=-1, keepdims=True)
    out *= 1 / np.sqrt(np.square(out).mean(axis=-1, keepdims=True) + eps)
    out *= weight
    out += bias
    return np.asarray(out)


def rms_norm(x: Array, weight: Array, *, eps: float = 1e-6) -> Array:
    """
    >>> rms_norm(np.array([[1.0, -1.0]]), np.ones(2), eps=0.0).tolist()
    [[1.0, -1.0]]
    """
    out = x * (1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps))
    out *= weight
    return np.asarray(out)


def rotary_tables(length: int, size: int, dtype: DTypeLike) -> tuple[Array, Array]:
    """Cosines and sines (length, size) of positions times frequencies, each frequency in both halves of the columns."""
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, size, 2) / size)
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def rotary_embedding(x: Array, cos: Array, sin: Array) -> Array:
    """Column i is turned with column i + size / 2: x · cos + (-second half, first half) · sin.

    >>> rotary_embedding(np.ones((3, 4)), *rotary_tables(3, 4, np.float64)).shape
    (3, 4)
    """
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half] -= x[..., half:] * sin[:, :half]
    out[..., half:] += x[..., :half] * sin[:, half:]
    return np.asarray(out)
