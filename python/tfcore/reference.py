"""Every operator of tfcore as its formula in plain NumPy: same names, same arguments, written to be read.

Everything is computed in float64 and rounded once, at the end, to the dtype tfcore promises: that of the arrays, and
float64 for integers and booleans. Letters: B batch, H query heads, G key/value heads, L query length, S key length,
D head size, C model width.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .rope import rotary_frequencies

Array = NDArray[Any]
Float64 = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])

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


def _as_the_formula_says(operator: Function) -> Function:
    """An infinity or a NaN goes where the formula takes it (∞ - ∞ and 0 · ∞ are NaN), and nobody is warned of it."""

    @functools.wraps(operator)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return operator(*args, **kwargs)

    return cast(Function, quiet)


# --- arrays in, arrays out -------------------------------------------------------------------------------------------


def _array(x: Any) -> Array:
    """Whatever NumPy or DLPack takes, as an array of real numbers."""
    if hasattr(x, "__dlpack__") and not hasattr(x, "__array__"):
        x = np.from_dlpack(x)
    array: Array = np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"dtype {array.dtype} is not one of bool, integers and floats")
    return array


def _arrays(*arrays: Any) -> tuple[np.dtype[Any], list[Float64]]:
    """The dtype of a result of these arrays (None is skipped), and the arrays in float64."""
    given = [_array(x) for x in arrays if x is not None]
    dtype = np.result_type(*given)
    return dtype if dtype.kind == "f" else np.dtype(np.float64), [x.astype(np.float64) for x in given]


def _deliver(result: Float64, dtype: DTypeLike, out: Array | None) -> Array:
    result = np.asarray(result).astype(dtype)
    if out is None:
        return result
    if not isinstance(out, np.ndarray) or out.dtype != result.dtype:
        raise TypeError(f"out is {getattr(out, 'dtype', type(out))}, expected an array of {result.dtype}")
    if out.shape != result.shape:
        raise ValueError(f"out has shape {out.shape}, expected {result.shape}")
    out[...] = result
    return out


def _count(name: str, value: Any) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if value < 0:
        raise ValueError(f"{name} is {value}, expected at least 0")
    return int(value)


# --- attention -------------------------------------------------------------------------------------------------------


@_as_the_formula_says
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
) -> Array | tuple[Array, Array]:
    """out[i] = Σ_j softmax_j(scale · query[i]·key[j]) · value[j], the sum over the keys that query i may see.

    query (..., H, L, D), key (..., G, S, D), value (..., G, S, Dv) → (..., H, L, Dv); (L, D) is one head.

    >>> q, k, v = np.ones((8, 5, 64)), np.ones((8, 7, 64)), np.ones((8, 7, 32))
    >>> scaled_dot_product_attention(q, k, v).shape
    (8, 5, 32)
    """
    dtype, (q, k, v) = _arrays(query, key, value)
    one_head = q.ndim == 2
    q, k, v = _heads(q, k, v, enable_gqa)
    (*batch, heads, length, size), keys = q.shape, k.shape[-2]
    shape = q.shape[1:-1] if one_head else q.shape[:-1]  # (..., H, L)

    scores = _cap(q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(max(size, 1)) if scale is None else scale), softcap)
    position = np.arange(length)[:, None] + _per_batch("query_offset", query_offset, batch)  # (..., 1, L, 1)
    distance = np.arange(keys) - position  # (..., 1, L, S): how far key j stands after query i
    if alibi_slopes is not None:
        slopes = np.broadcast_to(_array(alibi_slopes), (heads,))
        scores = scores - slopes[:, None, None] * np.abs(distance)

    visible = np.ones(scores.shape, bool)
    if attn_mask is not None:
        mask = np.broadcast_to(_array(attn_mask), (*shape, keys)).reshape(scores.shape)
        if mask.dtype != bool:
            scores = scores + mask
            mask = mask != -np.inf
        visible &= mask
    if is_causal:
        visible &= distance <= 0
    if window is not None:
        visible &= _inside(window, distance)
    if key_lengths is not None:
        visible &= np.arange(keys) < _key_lengths(key_lengths, batch, keys)

    extra = -np.inf if sinks is None else _array(sinks).astype(np.float64)
    weights, result = _attend(scores, visible, v, np.broadcast_to(extra, (heads,)))
    result = _deliver(result.reshape(*shape, v.shape[-1]), dtype, out)
    return (result, weights.reshape(*shape, keys).astype(dtype)) if return_weights else result


def _attend(scores: Float64, visible: Array, v: Float64, sink: Float64) -> tuple[Float64, Float64]:
    """Row by row, over the keys that the row sees: what the others hold is never read. No key at all gives zeros."""
    weights, result = np.zeros(scores.shape), np.zeros((*scores.shape[:-1], v.shape[-1]))
    for row in np.ndindex(scores.shape[:-1]):
        *head, _ = row
        seen = visible[row]
        if seen.any():
            weights[row][seen] = _softmax_beside(scores[row][seen], sink[head[-1]])
            result[row] = weights[row][seen] @ v[tuple(head)][seen]
    return weights, result


def _softmax_beside(scores: Float64, sink: Float64) -> Float64:
    """Softmax over these scores and one more, the sink's, whose own weight goes nowhere."""
    top = np.maximum(scores.max(), sink)
    powers = np.exp(scores - top)
    return np.asarray(powers / (powers.sum() + np.exp(sink - top)))


def _cap(scores: Float64, softcap: float) -> Float64:
    if not softcap >= 0:
        raise ValueError(f"softcap is {softcap}, expected 0 (none) or a positive number")
    return softcap * np.tanh(scores / softcap) if softcap else scores


def _heads(q: Float64, k: Float64, v: Float64, enable_gqa: bool) -> tuple[Float64, Float64, Float64]:
    """All three with a head axis and the same leading axes; query head h uses key/value head h // (H // G)."""
    if min(q.ndim, k.ndim, v.ndim) < 2 or len({x.ndim == 2 for x in (q, k, v)}) > 1:
        raise ValueError(f"query, key and value have {q.ndim}, {k.ndim} and {v.ndim} axes, expected 2, or 3 and more")
    if q.ndim == 2:
        q, k, v = q[None], k[None], v[None]
    (heads, groups), (size, key_size) = (q.shape[-3], k.shape[-3]), (q.shape[-1], k.shape[-1])
    if size != key_size:
        raise ValueError(f"key has head size {key_size}, expected query's {size}")
    if v.shape[-3:-1] != k.shape[-3:-1]:
        raise ValueError(f"value has shape {v.shape}, expected key's heads and length, {k.shape[-3:-1]}")
    if heads != groups:
        if not enable_gqa or not groups or heads % groups:
            raise ValueError(f"key has {groups} heads, expected {heads}, or a divisor of it with enable_gqa=True")
        k, v = np.repeat(k, heads // groups, axis=-3), np.repeat(v, heads // groups, axis=-3)
    batch = np.broadcast_shapes(q.shape[:-3], k.shape[:-3], v.shape[:-3])
    q, k, v = (np.broadcast_to(x, batch + x.shape[-3:]) for x in (q, k, v))
    return q, k, v


def _per_batch(name: str, value: Any, batch: Sequence[int]) -> Array:
    """One integer, or one for each batch, shaped to broadcast with (..., H, L, S)."""
    given = _array(value)
    if given.dtype.kind not in "iu":
        raise TypeError(f"{name} is {given.dtype}, expected integers")
    flat = given.ravel() if given.shape == tuple(batch) else given
    return np.broadcast_to(flat.astype(np.int64), (math.prod(batch),)).reshape(*batch, 1, 1, 1)


def _key_lengths(value: ArrayLike, batch: Sequence[int], keys: int) -> Array:
    lengths = _per_batch("key_lengths", value, batch)
    if np.any((lengths < 0) | (lengths > keys)):
        raise ValueError(f"key_lengths is {value!r}, expected integers from 0 to {keys}")
    return lengths


def _inside(window: Sequence[int], distance: Array) -> Array:
    left, right = window
    if left < -1 or right < -1:
        raise ValueError(f"window is {window}, expected lengths, or -1 for an open side")
    return np.asarray(((left == -1) | (distance >= -left)) & ((right == -1) | (distance <= right)))


@_as_the_formula_says
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
    """Attention within each of B sequences laid end to end, without padding.

    query (total, H, D), key (total_k, G, D), value (total_k, G, Dv) → (total, H, Dv). Sequence b is rows
    cu_seqlens[b] to cu_seqlens[b + 1].

    >>> tokens = np.ones((10, 8, 64))
    >>> attention_varlen(tokens, tokens, tokens, [0, 3, 10]).shape
    (10, 8, 64)
    """
    dtype, (q, k, v) = _arrays(query, key, value)
    if not q.ndim == k.ndim == v.ndim == 3:
        raise ValueError(f"query, key and value have {q.ndim}, {k.ndim} and {v.ndim} dimensions, expected 3")
    starts_q = _cu_seqlens("cu_seqlens_q", cu_seqlens_q, len(q))
    starts_k = _cu_seqlens("cu_seqlens_k", cu_seqlens_q if cu_seqlens_k is None else cu_seqlens_k, len(k))
    if len(starts_q) != len(starts_k):
        raise ValueError(f"cu_seqlens_k has {len(starts_k)} entries, expected {len(starts_q)} as cu_seqlens_q")
    result = np.zeros((*q.shape[:2], v.shape[2]))
    for b in range(len(starts_q) - 1):
        mine, theirs = slice(*starts_q[b : b + 2]), slice(*starts_k[b : b + 2])
        heads = scaled_dot_product_attention(
            *(np.swapaxes(x, 0, 1) for x in (q[mine], k[theirs], v[theirs])),
            is_causal=is_causal,
            window=window,
            scale=scale,
            softcap=softcap,
            enable_gqa=enable_gqa,
        )
        result[mine] = np.swapaxes(heads, 0, 1)
    return _deliver(result, dtype, out)


def _cu_seqlens(name: str, value: ArrayLike, total: int) -> Array:
    starts = _array(value)
    if starts.dtype.kind not in "iu":
        raise TypeError(f"{name} is {starts.dtype}, expected integers")
    if starts.ndim != 1 or len(starts) == 0 or starts[0] != 0 or starts[-1] != total or np.any(np.diff(starts) < 0):
        raise ValueError(f"{name} is {starts}, expected to rise from 0 to {total}")
    return starts


@_as_the_formula_says
def self_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike) -> Array:
    """Attention of one head: query (..., n, d), key (..., m, d), value (..., m, dv) → (..., n, dv).

    >>> self_attention(np.ones((3, 64)), np.ones((5, 64)), np.ones((5, 64))).shape
    (3, 64)
    """
    dtype, (q, k, v) = _arrays(query, key, value)
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"query, key and value have {q.ndim}, {k.ndim} and {v.ndim} axes, expected 2 or more")
    heads = scaled_dot_product_attention(*(np.expand_dims(x, -3) for x in (q, k, v)))
    return _deliver(np.squeeze(heads, -3), dtype, None)


@_as_the_formula_says
def multi_head_attention(query: ArrayLike, key: ArrayLike, value: ArrayLike, num_heads: int = 8) -> Array:
    """Attention in heads that are equal slices of the last axis, without projections.

    query (..., n, C), key (..., m, C), value (..., m, Cv) → (..., n, Cv)

    >>> multi_head_attention(np.ones((3, 64)), np.ones((5, 64)), np.ones((5, 64)), num_heads=4).shape
    (3, 64)
    """
    dtype, arrays = _arrays(query, key, value)
    if _count("num_heads", num_heads) == 0:
        raise ValueError("num_heads is 0, expected at least 1")
    for name, x in zip(("query", "key", "value"), arrays, strict=True):
        if x.ndim < 2 or x.shape[-1] % num_heads:
            raise ValueError(f"{name} has shape {x.shape}, expected 2 or more axes, the last divisible by {num_heads}")
    q, k, v = (np.swapaxes(x.reshape(*x.shape[:-1], num_heads, x.shape[-1] // num_heads), -2, -3) for x in arrays)
    heads = np.swapaxes(scaled_dot_product_attention(q, k, v), -2, -3)
    return _deliver(heads.reshape(*heads.shape[:-2], arrays[2].shape[-1]), dtype, None)


# --- positions -------------------------------------------------------------------------------------------------------


@_as_the_formula_says
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
    """Sines in the even columns and cosines in the odd ones, of angle position / base^(2⌊i/2⌋ / d_model) in column i.

    `layout="split"`: the sines first, then the cosines. `frequencies="linear"`: the angle of column i is
    position · i / d_model. Rows are positions offset, offset + 1, …

    >>> positional_encoding(2, 4).round(3).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.01, 1.0]]
    """
    rows, columns = _count("seq_len", seq_len), _count("d_model", d_model)
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"dtype is {np.dtype(dtype)}, expected a float dtype")
    if layout not in ("interleaved", "split"):
        raise ValueError(f"layout is {layout!r}, expected 'interleaved' or 'split'")
    if frequencies not in ("geometric", "linear"):
        raise ValueError(f"frequencies is {frequencies!r}, expected 'geometric' or 'linear'")
    column = np.arange(columns)
    per_position = column / columns if frequencies == "linear" else base ** (-2.0 * (column // 2) / columns)
    angle = (offset + np.arange(rows))[:, None] * per_position
    result = np.where(column % 2, np.cos(angle), np.sin(angle))
    if layout == "split":
        result = np.concatenate([result[:, 0::2], result[:, 1::2]], axis=1)
    return _deliver(result, dtype, out)


@_as_the_formula_says
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
    """Each pair of columns of x (..., L, D) turned by position · frequency.

    A pair is columns i and i + rotary_dim / 2, or 2i and 2i + 1 when `interleaved`; columns from `rotary_dim` on pass
    unchanged. `positions` (0, 1, …, L - 1 when None) broadcasts to (..., L); for x (B, H, L, D) it may be (B, L).

    >>> rotary_embedding(np.ones((2, 8, 5, 64))).shape
    (2, 8, 5, 64)
    """
    dtype, (wide,) = _arrays(x)
    if wide.ndim < 2:
        raise ValueError(f"x has shape {wide.shape}, expected (..., L, D)")
    turning = wide.shape[-1] if rotary_dim is None else _count("rotary_dim", rotary_dim)
    if turning > wide.shape[-1]:
        raise ValueError(f"rotary_dim is {turning}, expected at most x's last axis, {wide.shape[-1]}")
    at = _positions(positions, wide.shape[:-1])
    length = int(at.max()) + 1 if at.size else 0
    per_position, factor = rotary_frequencies(turning, base=base, scaling=scaling, length=length)
    angle = at[..., None] * per_position
    cos, sin = np.cos(angle) * factor, np.sin(angle) * factor
    half = turning // 2
    first, second = (slice(0, turning, 2), slice(1, turning, 2)) if interleaved else (slice(half), slice(half, turning))
    result = wide.copy()
    result[..., first] = wide[..., first] * cos - wide[..., second] * sin
    result[..., second] = wide[..., second] * cos + wide[..., first] * sin
    return _deliver(result, dtype, out)


def _positions(positions: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """One position for each row of x, whose shape without its columns is (..., L)."""
    if positions is None:
        return np.broadcast_to(np.arange(shape[-1]), shape)
    given = _array(positions)
    if given.dtype.kind not in "iu":
        raise TypeError(f"positions is {given.dtype}, expected integers")
    if len(shape) == 3 and given.ndim == 2:  # (B, L): the same for every head
        given = given[:, None]
    return np.broadcast_to(given, shape)


def alibi_slopes(num_heads: int) -> Float64:
    """2^(-8/H), 2^(-16/H), …, 2^-8 when H is a power of two.

    Otherwise those of the power of two below it, and then every second one of that power's double.

    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    count = _count("num_heads", num_heads)
    if count == 0:
        raise ValueError("num_heads is 0, expected at least 1")
    power = 1 << (count.bit_length() - 1)
    slopes = 2.0 ** (-8 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4 / power * np.arange(1, 2 * power + 1, 2))
    return np.concatenate([slopes, between[: count - power]])


# --- products --------------------------------------------------------------------------------------------------------


@_as_the_formula_says
def matmul(a: ArrayLike, b: ArrayLike, *, out: Array | None = None) -> Array:
    """c[i, j] = Σ_k a[i, k] · b[k, j], as np.matmul.

    >>> matmul(np.ones((3, 4)), np.ones((4, 5))).shape
    (3, 5)
    """
    dtype, (left, right) = _arrays(a, b)
    return _deliver(np.matmul(left, right), dtype, out)


def _activate(x: Float64, activation: str | None) -> Float64:
    functions: dict[str | None, Callable[[], Float64]] = {
        None: lambda: x,
        "relu": lambda: np.maximum(x, 0),
        "gelu": lambda: x * _normal_cdf(x),
        # x/2 · (1 + tanh u) is x · sigmoid(2u); so written it does not cancel where u is very negative
        "gelu_tanh": lambda: x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)),
        "silu": lambda: x * _sigmoid(x),
        "tanh": lambda: np.tanh(x),
    }
    if activation not in functions:
        raise ValueError(f"activation is {activation!r}, expected one of {list(functions)}")
    result = functions[activation]()
    return np.where((x == -np.inf) & np.isnan(result), 0.0, result)  # for -∞ · 0 the limit, which is 0


def _sigmoid(x: Float64) -> Float64:
    return np.asarray(1 / (1 + np.exp(-x)))


def _normal_cdf(x: Float64) -> Float64:
    """Φ(x): the chance that a normal variable is below x."""
    return np.array([math.erfc(-t / math.sqrt(2)) / 2 for t in x.flat]).reshape(x.shape)


@_as_the_formula_says
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

    >>> linear(np.ones((2, 5, 3)), np.ones((7, 3))).shape
    (2, 5, 7)
    """
    dtype, (left, matrix, *_) = _arrays(x, weight, bias, residual)
    if matrix.ndim != 2 or left.ndim < 1 or left.shape[-1] != matrix.shape[1]:
        raise ValueError(f"x has shape {left.shape}, expected (..., K) for a weight (N, K) of shape {matrix.shape}")
    result = left @ matrix.T
    if bias is not None:
        result = result + np.broadcast_to(_array(bias), matrix.shape[:1])
    result = _activate(result, activation)
    if residual is not None:
        result = result + np.broadcast_to(_array(residual), result.shape)
    return _deliver(result, dtype, out)


class PackedLinear:
    """`linear` for one weight and many inputs. Here nothing is packed.

    >>> PackedLinear(np.ones((7, 3)), np.ones(7))(np.ones((2, 5, 3))).shape
    (2, 5, 7)
    """

    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None) -> None:
        self.weight = _array(weight).copy()
        self.bias = None if bias is None else _array(bias).copy()

    def __call__(
        self,
        x: ArrayLike,
        *,
        activation: str | None = None,
        residual: ArrayLike | None = None,
        out: Array | None = None,
    ) -> Array:
        return linear(x, self.weight, self.bias, activation=activation, residual=residual, out=out)


@_as_the_formula_says
def feed_forward(
    x: ArrayLike,
    w1: ArrayLike,
    b1: ArrayLike | None,
    w2: ArrayLike,
    b2: ArrayLike | None,
    *,
    activation: str | None = "gelu",
) -> Array:
    """linear(activation(linear(x, w1, b1)), w2, b2): x (..., C), w1 (F, C), w2 (C, F) → (..., C).

    >>> feed_forward(np.ones((5, 3)), np.ones((12, 3)), np.ones(12), np.ones((3, 12)), np.ones(3)).shape
    (5, 3)
    """
    dtype, (wide, *_) = _arrays(x, w1, b1, w2, b2)
    hidden = linear(wide, w1, b1, activation=activation)
    return _deliver(linear(hidden, w2, b2), dtype, None)


# --- along the last axis ---------------------------------------------------------------------------------------------


@_as_the_formula_says
def softmax(x: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    """exp(x) / Σ exp(x) along an axis; the largest x is subtracted first, which changes nothing but the range.

    >>> softmax([0.0, 0.0]).tolist()
    [0.5, 0.5]
    """
    dtype, (wide,) = _arrays(x)
    powers = np.exp(wide - wide.max(axis=axis, keepdims=True, initial=-np.inf))
    return _deliver(powers / powers.sum(axis=axis, keepdims=True), dtype, out)


@_as_the_formula_says
def log_softmax(x: ArrayLike, axis: int = -1, *, out: Array | None = None) -> Array:
    """log(exp(x) / Σ exp(x)) along an axis, as x - log Σ exp(x), with the largest x subtracted first.

    >>> log_softmax([1000.0, 0.0]).tolist()
    [0.0, -1000.0]
    """
    dtype, (wide,) = _arrays(x)
    below = wide - wide.max(axis=axis, keepdims=True, initial=-np.inf)
    return _deliver(below - np.log(np.exp(below).sum(axis=axis, keepdims=True)), dtype, out)


@_as_the_formula_says
def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    out: Array | None = None,
) -> Array:
    """(x - mean) / sqrt(variance + eps) · weight + bias along the last axis.

    >>> layer_norm([1.0, 3.0], eps=0.0).tolist()
    [-1.0, 1.0]
    """
    dtype, (wide, *_) = _arrays(x, weight, bias)
    centred = wide - _mean(wide)
    return _deliver(_affine(centred / np.sqrt(_mean(centred**2) + eps), weight, bias), dtype, out)


@_as_the_formula_says
def rms_norm(x: ArrayLike, weight: ArrayLike | None = None, *, eps: float = 1e-6, out: Array | None = None) -> Array:
    """x / sqrt(mean(x²) + eps) · weight along the last axis.

    >>> rms_norm([1.0, -1.0], eps=0.0).tolist()
    [1.0, -1.0]
    """
    dtype, (wide, *_) = _arrays(x, weight)
    return _deliver(_affine(wide / np.sqrt(_mean(wide**2) + eps), weight, None), dtype, out)


def _mean(x: Float64) -> Float64:
    return np.asarray(x.sum(axis=-1, keepdims=True) / max(x.shape[-1], 1))


def _affine(x: Float64, weight: ArrayLike | None, bias: ArrayLike | None) -> Float64:
    if weight is not None:
        x = x * np.broadcast_to(_array(weight), x.shape[-1:])
    return x if bias is None else x + np.broadcast_to(_array(bias), x.shape[-1:])


# --- one element at a time -------------------------------------------------------------------------------------------


@_as_the_formula_says
def gelu(x: ArrayLike, *, approximate: str = "none", out: Array | None = None) -> Array:
    """x · Φ(x), Φ the normal distribution's; with `approximate="tanh"`, x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).

    >>> gelu([-1.0, 0.0, 1.0]).round(3).tolist()
    [-0.159, 0.0, 0.841]
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
    dtype, (wide,) = _arrays(x)
    return _deliver(_activate(wide, "gelu" if approximate == "none" else "gelu_tanh"), dtype, out)


@_as_the_formula_says
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """The larger of x and 0.

    >>> relu([-1.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    dtype, (wide,) = _arrays(x)
    return _deliver(_activate(wide, "relu"), dtype, out)


@_as_the_formula_says
def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """x / (1 + exp(-x)).

    >>> silu([-1.0, 0.0, 1.0]).round(3).tolist()
    [-0.269, 0.0, 0.731]
    """
    dtype, (wide,) = _arrays(x)
    return _deliver(_activate(wide, "silu"), dtype, out)
