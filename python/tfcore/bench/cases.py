"""What is measured. Each function makes one case; `CASES`, at the end, is the list of shapes.

Bounds: u is the unit round-off of the dtype, and a sum of n products may be off by 4·√n roundings of Σ|a||b| (the
strict count is n; errors drawn at random cancel). Letters as everywhere: B, H, L, S, D, C.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import drop_in, ops
from . import encoder, plain, torch_peers
from .harness import Case, Contest
from .plain import Array, Tutorial

__all__ = ["CASES"]

Float64 = NDArray[np.float64]


def _normal(*shape: int, dtype: DTypeLike = np.float32, seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def _unit(dtype: DTypeLike) -> float:
    """The relative error of one rounding; twice that for float64, where what we compare with errs as much."""
    return float(np.finfo(dtype).eps) * (1.0 if np.dtype(dtype) == np.float64 else 0.5)


# --- attention -------------------------------------------------------------------------------------------------------


def _attention_in_float64(q: Array, k: Array, v: Array, is_causal: bool = False) -> tuple[Float64, float]:
    """The exact result (..., L, D) and the error allowed. Head by head: only one head's scores exist at a time.

    A score is off by 4·√D roundings of |q||k| / √D; its weight by twice that, as the row's sum moves too; sums over S
    keys of weights and of weights times values by 4·√S roundings each.
    """
    unit, (keys, size) = _unit(q.dtype), k.shape[-2:]
    want = np.empty((*q.shape[:-1], v.shape[-1]))
    for head in np.ndindex(q.shape[:-2]):
        query, key, value = (x[head].astype(np.float64) for x in (q, k, v))
        want[head] = plain.attention(query, key, value, is_causal)
    largest_score = _longest(q) * _longest(k) / math.sqrt(size)
    steps = 2 * (4 * math.sqrt(size) + 4) * largest_score + 8 * math.sqrt(keys) + 8
    return want, steps * unit * float(np.abs(v).mean(axis=-2).max())


def _longest(x: Array) -> float:
    return float(np.sqrt(np.square(x).sum(axis=-1)).max(initial=0.0))


def attention(b: int, h: int, length: int, s: int, d: int, *, causal: bool = False, dtype: str = "float32") -> Case:
    """Fused attention, (B, H, L, D) over (B, H, S, D)."""

    def make() -> Contest:
        q, k, v = (_normal(b, h, n, d, dtype=dtype, seed=i) for i, n in enumerate((length, s, s)))
        want, bound = _attention_in_float64(q, k, v, causal)
        return Contest(
            rivals={
                "tfcore": lambda: partial(ops.scaled_dot_product_attention, q, k, v, is_causal=causal),
                "numpy": lambda: partial(plain.attention, q, k, v, causal),
                "torch": lambda: torch_peers.attention(q, k, v, causal),
            },
            want=want,
            bound=bound,
            work=4 * b * h * length * s * d / (2 if causal else 1),
        )

    return Case(f"attention {dtype} {b},{h},{length},{s},{d}{' causal' * causal}", "attention", make)


def multi_head_attention(n: int, m: int, c: int, dtype: str) -> Case:
    """The tutorial's multi_head_attention, n rows over m rows of C columns, 8 heads."""

    def make() -> Contest:
        q, k, v = (_normal(rows, c, dtype=dtype, seed=i) for i, rows in enumerate((n, m, m)))
        split_q, split_k, split_v = (np.stack(np.split(x, 8, axis=1)) for x in (q, k, v))
        want, bound = _attention_in_float64(split_q, split_k, split_v)
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.multi_head_attention, q, k, v, 8),
                "numpy": lambda: partial(Tutorial.multi_head_attention, q, k, v, 8),
                "torch": lambda: torch_peers.heads_of_slices(q, k, v, 8),
            },
            want=np.concatenate(list(want), axis=1),
            bound=bound,
            work=4 * n * m * c,
        )

    over = f" over {m}" if m != n else ""
    return Case(f"drop-in multi_head_attention {dtype} {n}x{c}{over}", "drop-in", make)


def self_attention(n: int, m: int, d: int) -> Case:
    """The tutorial's self_attention in float64: one small call, where overhead is all."""

    def make() -> Contest:
        q, k, v = (_normal(rows, d, dtype=np.float64, seed=i) for i, rows in enumerate((n, m, m)))
        want, bound = _attention_in_float64(q, k, v)
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.self_attention, q, k, v),
                "numpy": lambda: partial(Tutorial.self_attention, q, k, v),
                "torch": lambda: torch_peers.attention(q, k, v),
            },
            want=want,
            bound=bound,
            work=4 * n * m * d,
        )

    return Case(f"drop-in self_attention {n}x{d} over {m}x{d}", "drop-in", make)


# --- positions and products ------------------------------------------------------------------------------------------


def positional_encoding(seq_len: int, d_model: int) -> Case:
    """The tutorial's positional_encoding, in float64. Verified on the same rounded angles, sine and cosine wider."""

    def make() -> Contest:
        column = np.arange(d_model)
        angle = (np.arange(seq_len)[:, None] * (column / d_model)).astype(np.longdouble)
        want = np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float64)
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.positional_encoding, seq_len, d_model),
                "numpy": lambda: partial(Tutorial.positional_encoding, seq_len, d_model),
            },
            want=want,
            bound=2 * _unit(np.float64),
            work=8 * seq_len * d_model,
            work_unit="B",
        )

    return Case(f"drop-in positional_encoding {seq_len}x{d_model}", "drop-in", make)


def linear(m: int, k: int, n: int) -> Case:
    """x @ weight.T + bias in float32, the weights packed beforehand as a model does."""

    def make() -> Contest:
        x, weight, bias = _normal(m, k, seed=0), _normal(n, k, seed=1), _normal(n, seed=2)
        wide = [array.astype(np.float64) for array in (x, weight, bias)]
        return Contest(
            rivals={
                "tfcore": lambda: partial(ops.PackedLinear(weight, bias), x),
                "numpy": lambda: partial(plain.linear, x, weight, bias),
                "torch": lambda: torch_peers.linear(x, weight, bias),
            },
            want=plain.linear(*wide),
            bound=(4 * math.sqrt(k) + 2) * _unit(np.float32) * plain.linear(*(np.abs(array) for array in wide)),
            work=2 * m * k * n,
        )

    return Case(f"linear {m}x{k} to {n}", "linear", make)


# --- whole models ----------------------------------------------------------------------------------------------------


def encode(shape: encoder.Shape, batch: int, length: int) -> Case:
    """An encoder's forward pass, random weights, no padding; torch here is Transformers on torch."""

    def make() -> Contest:
        ids = np.random.default_rng(0).integers(0, shape.vocabulary, (batch, length))
        models = encoder.opened(shape)
        return Contest(
            rivals={"tfcore": lambda: models.tfcore(ids), "torch": lambda: models.torch(ids)},
            want=encoder.forward(shape, models.weights, ids),
            bound=2e-5,  # normalised rows, so of size 1; what MiniLM's recorded outputs are held to
            work=encoder.flops(shape, batch, length),
        )

    return Case(f"{shape.name} {batch}x{length}", "encoder", make)


CASES = (
    self_attention(1, 5, 64),
    multi_head_attention(512, 512, 512, "float64"),
    multi_head_attention(512, 512, 512, "float32"),
    positional_encoding(4096, 512),
    attention(8, 12, 128, 128, 64),
    attention(1, 12, 512, 512, 64),
    attention(1, 12, 2048, 2048, 64, causal=True),
    linear(128, 768, 3072),
    encode(encoder.MINILM_L6, 1, 16),
    encode(encoder.MINILM_L6, 8, 128),
    encode(encoder.BERT_BASE, 1, 128),
)
