"""The operators: NumPy arrays in, NumPy arrays out, computed in C++.

Letters: B batch, H query heads, G key/value heads, L query length, S key length, D head size, C model width.

float64 and float32 keep their dtype and are computed in it; float16 is computed in float32 and returned as float16;
integers and bools become float64; mixed dtypes promote as in NumPy. Inputs are whatever `np.asarray` or DLPack takes,
with any strides; results are new NumPy arrays, or `out`. A wrong kind of argument raises TypeError, a wrong value
ValueError; the message names the argument, what came and what was expected.

A result row depends on its own inputs alone: not on the batch, the other rows, padding or the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import _core
from ._core import PackedLinear
from .rope import rotary_frequencies

Array = NDArray[Any]

__all__ = [
    "PackedLinear",
    "alibi_slopes",
    "attention_varlen",
    "feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "multi_head_attention",
    "positional_encoding",
    "relu",
    "rms_norm",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "self_attention",
    "silu",
    "softmax",
]


# --- attention -------------------------------------------------------------------------------------------------------


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    *,
    is_causal: bool = False,
    query_offset: int | ArrayLike = 0,
    key_lengths: ArrayLike | None = None,
    window: Sequence[int] | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
    enable_gqa: bool = False,
    return_weights: bool = False,
    out: Array | None = None,
) -> Any:
    """softmax(query @ key.T * scale) @ value, with no (L, S) array and no trace of hidden keys.

    query (..., H, L, D), key (..., G, S, D), value (..., G, S, Dv) → (..., H, L, Dv); 2-D arrays are one head.

    >>> q, k = np.ones((2, 8, 5, 64)), np.ones((2, 8, 7, 64))
    >>> scaled_dot_product_attention(q, k, k).shape
    (2, 8, 5, 64)
    >>> scaled_dot_product_attention(q, k, k, is_causal=True, query_offset=2).shape
    (2, 8, 5, 64)
    >>> scaled_dot_product_attention(q, k[:, :2], k[:, :2], enable_gqa=True, key_lengths=[7, 3]).shape
    (2, 8, 5, 64)
    >>> output, weights = scaled_dot_product_attention(q, k, k, return_weights=True)
    >>> weights.shape
    (2, 8, 5, 7)

    Parameters
    ----------
    attn_mask : broadcastable to (..., H, L, S). bool: True lets the key be seen. float: added to the scores, in query's
        dtype; -inf hides the key. Hidden keys and values are never read into a result: a NaN there stays there.
    is_causal : key j is visible to query i when j <= i + query_offset.
    query_offset : 0 is PyTorch's alignment, S - L the lower-right one; an int array gives one offset per batch.
    key_lengths : one int per batch, from 0 to S; keys past it are padding.
    window : (left, right): key j is visible when i + query_offset - left <= j <= i + query_offset + right; -1 leaves a
        side open. Mask, causality, lengths and window restrict together.
    scale : 1 / sqrt(D) by default.
    softcap : scores become softcap * tanh(score / softcap); 0 leaves them.
    alibi_slopes : (H,): slope * |i + query_offset - j| is taken from the scores (Press et al. 2022).
    sinks : (H,): extra logits in the softmax's denominator.
    enable_gqa : query head h reads key head h // (H // G) (Ainslie et al. 2023).
    return_weights : return (output, weights), the weights (..., H, L, S).
    out : array of the result's shape and dtype that shares no memory with an input.

    A row that can see no key gives zeros. The running softmax is that of Rabe & Staats 2021 and Dao et al. 2022.
    """
    return _core.scaled_dot_product_attention(
        query, key, value, attn_mask, is_causal, query_offset, key_lengths, window, scale, softcap, alibi_slopes, sinks,
        enable_gqa, return_weights, out,
    )  # fmt: skip


def attention_varlen(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    cu_seqlens_q: ArrayLike,
    cu_seqlens_k: ArrayLike | None = None,
    *,
    is_causal: bool = False,
    window: Sequence[int] | None = None,
    scale: float | None = None,
    softcap: float = 0.0,
    enable_gqa: bool = False,
    out: Array | None = None,
) -> Array:
    """Attention within packed sequences of different lengths, without padding.

    query (total, H, D), key (total, G, D), value (total, G, Dv) → (total, H, Dv). Sequence b is the rows
    cu_seqlens[b] to cu_seqlens[b + 1]; cu_seqlens_k is cu_seqlens_q unless given. The rest as in
    `scaled_dot_product_attention`.

    >>> x = np.ones((9, 8, 64))
    >>> attention_varlen(x, x, x, [0, 2, 9]).shape
    (9, 8, 64)
    """
    return _core.attention_varlen(
        query, key, value, cu_seqlens_q, cu_seqlens_k, is_causal, window, scale, softcap, enable_gqa, out
    )


def self_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike) -> Array:
    """softmax(query @ key.T / sqrt(d)) @ value for one head: (..., n, d), (..., m, d), (..., m, dv) → (..., n, dv).

    >>> self_attention(np.ones((3, 64)), np.ones((5, 64)), np.ones((5, 32))).shape
    (3, 32)
    """
    return _core.self_attention(query, key, value)


def multi_head_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike, num_heads: int = 8) -> Array:
    """Attention whose heads are equal slices of the last axis: (..., n, C), (..., m, C), (..., m, Cv) → (..., n, Cv).

    There are no projections. `num_heads` must divide C and Cv.

    >>> x = np.ones((10, 512))
    >>> multi_head_attention(x, x, x).shape
    (10, 512)
    """
    return _core.multi_head_attention(query, key, value, num_heads)


# --- positions -------------------------------------------------------------------------------------------------------


def positional_encoding(
    seq_len: int,
    d_model: int,
    *,
    base: float = 10000.0,
    offset: int = 0,
    layout: str = "interleaved",
    frequencies: str = "geometric",
    dtype: DTypeLike = np.float64,
    out: Array | None = None,
) -> Array:
    """Sines and cosines of the positions offset, offset + 1, …: (seq_len, d_model).

    "geometric" frequencies are base ** (-2i / d_model) for the pair of columns i (Vaswani et al. 2017, §3.5); "linear"
    ones make the angle of column i position * i / d_model. Even columns are sines and odd ones cosines; layout "split"
    puts all sines first. Angles are rounded to float64, as NumPy's are; their sines are right to 1 ulp of `dtype`.

    >>> positional_encoding(50, 512).shape
    (50, 512)
    >>> positional_encoding(2, 4).round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.01, 1.0]]
    """
    return _core.positional_encoding(seq_len, d_model, base, offset, layout, frequencies, dtype, out)


def rotary_embedding(
    x: ArrayLike,
    positions: ArrayLike | None = None,
    *,
    base: float = 10000.0,
    rotary_dim: int | None = None,
    interleaved: bool = False,
    scaling: Mapping[str, Any] | None = None,
    out: Array | None = None,
) -> Array:
    """Turn each pair of columns of x (..., L, D) by position * frequency (Su et al. 2021).

    A pair is the columns i and i + rotary_dim / 2, or 2i and 2i + 1 when `interleaved`; columns from `rotary_dim` (D by
    default) on pass unchanged. `positions` are integers that broadcast to (..., L), 0 … L - 1 by default; for x of
    (B, H, L, D) two axes are (B, L). `scaling` is a checkpoint's `rope_scaling`, of type "linear", "dynamic", "yarn",
    "longrope" or "llama3"; the frequencies of "dynamic" and "longrope" follow from the largest of all positions given.
    `out` may be x itself.

    >>> rotary_embedding(np.ones((2, 8, 5, 64))).shape
    (2, 8, 5, 64)
    """
    x = _as_array("rotary_embedding: x", x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"rotary_embedding: x has dtype {x.dtype}, expected a float dtype, integers or bool")
    if x.ndim < 2:
        raise ValueError(f"rotary_embedding: x has shape {x.shape}, expected (..., L, D)")
    turning = x.shape[-1] if rotary_dim is None else rotary_dim
    if not isinstance(turning, (int, np.integer)) or isinstance(turning, bool):
        raise TypeError(f"rotary_embedding: rotary_dim is of type {type(turning).__name__}, expected an integer")
    if not 0 <= turning <= x.shape[-1] or turning % 2:
        raise ValueError(f"rotary_embedding: rotary_dim is {turning}, expected an even number from 0 to {x.shape[-1]}")
    rows = _position_rows(positions, x.shape[:-1])
    length = int(rows.max()) + 1 if scaling is not None and rows.size else 0
    table, magnitude = rotary_frequencies(int(turning), base=base, scaling=scaling, length=length)
    return _core.rotary_embedding(x, rows, table, interleaved, magnitude, out)


def _as_array(what: str, x: Any) -> Array:
    if isinstance(x, np.ndarray):
        return x
    try:
        if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
        return np.asarray(x)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{what} is no array: {error}") from None


def _position_rows(positions: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """Positions as (P, L), each row of which serves as many consecutive matrices of x, whose rows are of `shape`."""
    if positions is None:
        return np.arange(shape[-1])[None]
    given = spread = _as_array("rotary_embedding: positions", positions)
    if given.dtype.kind not in "iu" and given.size:
        raise TypeError(f"rotary_embedding: positions has dtype {given.dtype}, expected integers")
    if given.ndim == 2 and len(shape) == 3:  # (B, L) for (B, H, L, D)
        spread = given[:, None]
    try:
        full = np.broadcast_to(spread, shape)
    except ValueError:
        expected = f"(B, L), here {(shape[0], shape[-1])}" if spread is not given else f"one that broadcasts to {shape}"
        message = f"rotary_embedding: positions has shape {given.shape}, expected {expected}"
        raise ValueError(message) from None
    shared = 0  # trailing leading axes along which the positions do not change
    while shared < full.ndim - 1 and (full.strides[-2 - shared] == 0 or full.shape[-2 - shared] == 1):
        shared += 1
    if not full.size:
        return np.zeros((1, shape[-1]), int)
    one_of_shared: tuple[Any, ...] = (..., *(0,) * shared, slice(None))
    rows: Array = full[one_of_shared].reshape(-1, shape[-1])
    return rows


def alibi_slopes(num_heads: int) -> NDArray[np.float64]:
    """The slopes of "Train Short, Test Long" (Press et al. 2022): (H,), from 2 ** (-8 / H) down to 2 ** -8.

    When H is no power of two, those of the power below it, then every second one of the power above.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    if isinstance(num_heads, bool) or not isinstance(num_heads, (int, np.integer)):
        raise TypeError(f"alibi_slopes: num_heads is of type {type(num_heads).__name__}, expected an integer")
    if num_heads < 1:
        raise ValueError(f"alibi_slopes: num_heads is {num_heads}, expected at least 1")
    power = 1 << (int(num_heads).bit_length() - 1)
    steps = [8 / power * i for i in range(1, power + 1)] + [4 / power * i for i in range(1, 2 * power, 2)]
    return 2.0 ** -np.array(steps[:num_heads])


# --- products --------------------------------------------------------------------------------------------------------


def matmul(a: ArrayLike, b: ArrayLike, *, out: Array | None = None) -> Array:
    """a @ b as np.matmul: (..., M, K), (..., K, N) → (..., M, N); 1-D arrays are vectors, leading axes broadcast.

    >>> matmul(np.ones((2, 3, 4)), np.ones((4, 5))).shape
    (2, 3, 5)
    """
    return _core.matmul(a, b, out)


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str | None = None,
    residual: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """activation(x @ weight.T + bias) + residual: x (..., K), weight (N, K), bias (N,), residual (..., N) → (..., N).

    `activation` is None, "relu", "gelu", "gelu_tanh", "silu" or "tanh". For many calls with one weight, `PackedLinear`.

    >>> linear(np.ones((2, 3)), np.ones((5, 3)), np.ones(5), activation="relu").shape
    (2, 5)
    """
    return _core.linear(x, weight, bias, activation, residual, out)


def feed_forward(
    x: ArrayLike,
    w1: ArrayLike,
    b1: ArrayLike | None,
    w2: ArrayLike,
    b2: ArrayLike | None,
    *,
    activation: str | None = "gelu",
) -> Array:
    """activation(x @ w1.T + b1) @ w2.T + b2: x (..., C), w1 (F, C), w2 (C, F) → (..., C); activations as in `linear`.

    >>> feed_forward(np.ones((5, 8)), np.ones((32, 8)), None, np.ones((8, 32)), None).shape
    (5, 8)
    """
    return _core.feed_forward(x, w1, b1, w2, b2, activation)


# --- rows and elements -----------------------------------------------------------------------------------------------


def softmax(x: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    """exp(x) / sum(exp(x)) along an axis, the largest x taken off first. `out` may be x itself.

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    return _core.softmax(x, axis, out)


def log_softmax(x: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    """The logarithm of `softmax`, x - max(x) - log(sum(exp(x - max(x)))): finite where a probability rounds to 0.

    `out` may be x itself.

    >>> log_softmax([1000.0, 0.0]).tolist()
    [0.0, -1000.0]
    """
    return _core.log_softmax(x, axis, out)


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    out: Array | None = None,
) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias along the last axis (Ba et al. 2016): (..., C) → (..., C).
    `out` may be x itself.

    >>> layer_norm([1.0, 3.0], eps=0.0).tolist()
    [-1.0, 1.0]
    """
    return _core.layer_norm(x, weight, bias, eps, out)


def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, *, eps: float = 1e-6, out: Array | None = None) -> Array:
    """x / sqrt(mean(x ** 2) + eps) * weight along the last axis (Zhang & Sennrich 2019): (..., C) → (..., C).
    `out` may be x itself.

    >>> rms_norm([1.0, -1.0], eps=0.0).tolist()
    [1.0, -1.0]
    """
    return _core.rms_norm(x, weight, eps, out)


def gelu(x: ArrayLike, *, approximate: str = "none", out: Array | None = None) -> Array:
    """x * Φ(x) (Hendrycks & Gimpel 2016), or its form with tanh when approximate="tanh". `out` may be x itself.

    The error of x * Φ(x) is at most three roundings of x: far below 0, where results are tiny beside it, fewer of their
    digits are right.

    >>> gelu([-1.0, 0.0, 1.0]).round(3).tolist()
    [-0.159, 0.0, 0.841]
    """
    return _core.gelu(x, approximate, out)


def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """max(x, 0). `out` may be x itself.

    >>> relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    return _core.relu(x, out)


def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """x / (1 + exp(-x)). `out` may be x itself.

    >>> silu([0.0, 1.0]).round(3).tolist()
    [0.0, 0.731]
    """
    return _core.silu(x, out)
