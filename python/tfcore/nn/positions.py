"""Positional schemes: two that are added to the embeddings, three that act within attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .. import ops
from ..relative import relative_bias
from ..scalars import integer
from . import initial
from .arrays import Array, as_array
from .layer import Layer, Seed, Weight

# --- added to the embeddings -----------------------------------------------------------------------------------------


class SinusoidalPositions:
    """Adds sines and cosines of the positions (Vaswani et al. 2017, §3.5).

    >>> from tfcore import nn
    >>> nn.SinusoidalPositions(16)(np.zeros((2, 5, 16), np.float32)).shape
    (2, 5, 16)
    >>> nn.SinusoidalPositions(4, layout="split")(np.zeros((1, 4)), offset=0).tolist()
    [[0.0, 0.0, 1.0, 1.0]]

    Parameters
    ----------
    d_model : int
        The width of the embeddings.
    layout : "interleaved" or "split"
        Sines in the even columns and cosines in the odd ones, or all sines first.
    base : float
        What the slowest wavelength grows with.
    """

    def __init__(self, d_model: int, *, layout: str = "interleaved", base: float = 10000.0) -> None:
        self.d_model, self.layout, self.base = integer("d_model", d_model), layout, base
        ops.positional_encoding(0, d_model, base=base, layout=layout)  # which says what is wrong with them

    def __call__(self, x: Any, offset: int = 0) -> Array:
        """x (..., L, d_model), whose rows are at the positions offset, offset + 1, … → the same shape."""
        x = _embeddings(x, self.d_model)
        dtype = x.dtype if x.dtype.kind == "f" else np.float64
        table = ops.positional_encoding(
            x.shape[-2], self.d_model, offset=offset, base=self.base, layout=self.layout, dtype=dtype
        )
        return np.asarray(x + table)


class LearnedPositions(Layer):
    """Adds a learned vector per position.

    >>> from tfcore import nn
    >>> nn.LearnedPositions(512, 16)(np.zeros((2, 5, 16), np.float32), offset=7).shape
    (2, 5, 16)

    Parameters
    ----------
    max_length, d_model : int
        How many positions there are, and the width of the embeddings.
    dtype, seed
        As in `Linear`.

    Attributes
    ----------
    weight : (max_length, d_model)
    """

    weight = Weight()

    def __init__(self, max_length: int, d_model: int, *, dtype: DTypeLike = np.float32, seed: Seed = 0) -> None:
        super().__init__(dtype)
        self.max_length, self.d_model = integer("max_length", max_length), integer("d_model", d_model)
        self._put("weight", initial.normal(initial.generator(seed), (max_length, d_model), 0.02, self.dtype))

    def __call__(self, x: Any, offset: int = 0) -> Array:
        """x (..., L, d_model), whose rows are at the positions offset, offset + 1, … → the same shape."""
        x = _embeddings(x, self.d_model)
        last = integer("offset", offset, 0) + x.shape[-2]
        if last > self.max_length:
            raise ValueError(f"x reaches position {last - 1}, but there are {self.max_length} learned ones")
        return np.asarray(x + self.weight[offset:last])

    def _sizes(self) -> str:
        return f"{self.max_length}, {self.d_model}"


def _embeddings(x: Any, width: int) -> Array:
    array = as_array("x", x)
    if array.ndim < 2 or array.shape[-1] != width:
        raise ValueError(f"x has shape {array.shape}, expected (..., L, {width})")
    return array


# --- within attention ------------------------------------------------------------------------------------------------


class AttentionPositions:
    """What a positional scheme can do within attention. The base does nothing."""

    def turn(self, heads: Array, first: int) -> Array:
        """Queries or keys (B, H, L, D), the first of which is at position `first`, changed in shape by nothing."""
        return heads

    def slopes(self, num_heads: int) -> Array | None:
        """ALiBi's slope of each head."""
        return None

    def bias(self, num_heads: int, queries: int, keys: int, first: int) -> Array | None:
        """Floats (1, H, L, S) to add to the scores; the first query is at position `first`, the first key at 0."""
        return None


class RotaryPositions(AttentionPositions):
    """Turns pairs of columns of queries and keys by their positions (Su et al. 2021).

    >>> from tfcore import nn
    >>> attention = nn.MultiHeadAttention(16, 4, positions=nn.RotaryPositions(base=5e5))
    >>> x = np.ones((2, 5, 16), np.float32)
    >>> attention(x, x, x, need_weights=False, is_causal=True)[0].shape
    (2, 5, 16)

    Parameters
    ----------
    base : float
        What the slowest wavelength grows with.
    rotary_dim : int, optional
        How many columns of a head turn; all if not given.
    interleaved : bool
        Whether a pair is the columns 2i and 2i + 1; otherwise i and i + rotary_dim / 2.
    scaling : dict, optional
        A checkpoint's `rope_scaling`, of type "linear", "dynamic", "yarn", "longrope" or "llama3". With "dynamic" and
        "longrope" the frequencies follow the length of each call: with a cache they are not those of one call over
        everything.
    """

    def __init__(
        self,
        *,
        base: float = 10000.0,
        rotary_dim: int | None = None,
        interleaved: bool = False,
        scaling: Mapping[str, Any] | None = None,
    ) -> None:
        columns = 0 if rotary_dim is None else integer("rotary_dim", rotary_dim, 0)
        ops.rotary_embedding(np.empty((0, columns)), base=base, interleaved=interleaved)  # refuses what no call can use
        self.base, self.rotary_dim, self.interleaved, self.scaling = base, rotary_dim, interleaved, scaling

    def turn(self, heads: Array, first: int) -> Array:
        return ops.rotary_embedding(
            heads,
            np.arange(first, first + heads.shape[-2]),
            base=self.base,
            rotary_dim=self.rotary_dim,
            interleaved=self.interleaved,
            scaling=self.scaling,
        )


class ALiBiPositions(AttentionPositions):
    """Takes a slope times the distance from each score (Press et al. 2022).

    >>> from tfcore import nn
    >>> attention = nn.MultiHeadAttention(16, 4, positions=nn.ALiBiPositions())
    >>> x = np.ones((2, 5, 16), np.float32)
    >>> attention(x, x, x, need_weights=False, is_causal=True)[0].shape
    (2, 5, 16)
    """

    def slopes(self, num_heads: int) -> Array:
        return ops.alibi_slopes(num_heads)


class BucketedPositions(AttentionPositions, Layer):
    """Adds a learned number per head and bucket of distances to each score, as T5 does (Raffel et al. 2020).

    Half of the buckets hold one distance each, the others ever more up to `max_distance`, and the last all beyond.

    >>> from tfcore import nn
    >>> attention = nn.MultiHeadAttention(16, 4, positions=nn.BucketedPositions(4), scale=1.0)
    >>> x = np.ones((2, 5, 16), np.float32)
    >>> attention(x, x, x, need_weights=False)[0].shape
    (2, 5, 16)

    Parameters
    ----------
    num_heads : int
    num_buckets, max_distance : int
        How many buckets there are, and the distance from which the last one holds all.
    bidirectional : bool
        Whether keys behind and ahead have buckets of their own; otherwise all keys ahead share that of distance 0.
    dtype, seed
        As in `Linear`.

    Attributes
    ----------
    weight : (num_buckets, num_heads)
        T5's `relative_attention_bias.weight`. One object may serve several layers.
    """

    weight = Weight()

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        *,
        dtype: DTypeLike = np.float32,
        seed: Seed = 0,
    ) -> None:
        super().__init__(dtype)
        self.num_heads, self.bidirectional = integer("num_heads", num_heads), bool(bidirectional)
        self.num_buckets = integer("num_buckets", num_buckets, 4 if bidirectional else 2)
        if bidirectional and num_buckets % 2:
            raise ValueError(f"num_buckets is {num_buckets}, expected an even number: one half for each direction")
        one_sided = num_buckets // 2 if bidirectional else num_buckets
        self.max_distance = integer("max_distance", max_distance, one_sided // 2 + 1)
        self._put("weight", initial.normal(initial.generator(seed), (num_buckets, num_heads), 1.0, self.dtype))

    def bias(self, num_heads: int, queries: int, keys: int, first: int) -> Array:
        if num_heads != self.num_heads:
            raise ValueError(f"positions has {self.num_heads} heads, the attention {num_heads}")
        reach = max(first + queries, keys, 1)
        by_distance = relative_bias(self.weight, reach, self.max_distance, bidirectional=self.bidirectional)
        rows, step = by_distance.strides  # a step down is a distance less, a step to the right one more
        return np.lib.stride_tricks.as_strided(
            by_distance[:, reach - first :], (1, num_heads, queries, keys), (0, rows, -step, step), writeable=False
        )

    def _sizes(self) -> str:
        return f"{self.num_heads}, {self.num_buckets}, {self.max_distance}, bidirectional={self.bidirectional}"
