"""The three functions of a NumPy transformer tutorial, with the same signatures and numbers, many times faster.

    from tfcore.drop_in import self_attention, multi_head_attention, positional_encoding

replaces these definitions, and changes nothing but the time; where their exponentials overflow to NaN, these stay
finite (values within a factor of S, the number of keys, of the largest float may overflow in turn):

    def self_attention(query, key, value):
        scores = np.dot(query, key.T) / np.sqrt(key.shape[1])
        weights = np.exp(scores) / np.sum(np.exp(scores), axis=1, keepdims=True)
        return np.dot(weights, value)

    def multi_head_attention(query, key, value, num_heads=8):
        heads = [np.split(x, num_heads, axis=1) for x in (query, key, value)]
        return np.concatenate([self_attention(*h) for h in zip(*heads)], axis=1)

    def positional_encoding(seq_len, d_model):
        positions = np.arange(seq_len)[:, np.newaxis]
        angles = np.arange(d_model)[np.newaxis, :] / d_model
        angles = angles * np.power(10000, -2 * (angles // 2) / d_model)
        encodings = np.zeros((seq_len, d_model))
        encodings[:, 0::2] = np.sin(positions * angles[:, 0::2])
        encodings[:, 1::2] = np.cos(positions * angles[:, 1::2])
        return encodings

In the last one `angles // 2` is 0, so the exponent never acts and column i turns by i / d_model a position. For the
encoding of "Attention Is All You Need" itself, `tfcore.positional_encoding(seq_len, d_model)`.

float32 arrays stay float32 here, and float16 ones float16. The definitions above widen them under NumPy 2, where
`np.sqrt` of an int is a float64 that counts as one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _core
from .ops import multi_head_attention, self_attention

__all__ = ["multi_head_attention", "positional_encoding", "self_attention"]


def positional_encoding(seq_len: int, d_model: int) -> NDArray[np.float64]:
    """(seq_len, d_model): the angle of column i is position * i / d_model; even columns sines, odd ones cosines.

    >>> positional_encoding(50, 512).shape
    (50, 512)
    """
    return _core.positional_encoding(seq_len, d_model, 10000.0, 0, "interleaved", "linear", np.float64, None)
