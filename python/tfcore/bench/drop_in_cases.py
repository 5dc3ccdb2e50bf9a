"""The tutorial's functions, whose code is NumPy's side: each function makes one case."""

from __future__ import annotations

from functools import partial

import numpy as np

from .. import drop_in, ops
from . import exact, plain, torch_peers
from .harness import Case, Contest
from .plain import Tutorial

__all__ = ["geometric_encoding", "multi_head_attention", "positional_encoding", "self_attention"]

_SMALL = 10**6  # floating-point operations: below, a call's overhead is what counts


def multi_head_attention(n: int, m: int, c: int, dtype: str) -> Case:
    """n rows over m rows of C columns, 8 heads."""

    def make() -> Contest:
        q, k, v = (exact.normal(rows, c, dtype=dtype, seed=i) for i, rows in enumerate((n, m, m)))
        want, bound = exact.attention(*(np.stack(np.split(x, 8, axis=1)) for x in (q, k, v)))
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.multi_head_attention, q, k, v, 8),
                "numpy": lambda: partial(Tutorial.multi_head_attention, q, k, v, 8),
                "torch": lambda: torch_peers.heads_of_slices(q, k, v, 8),
            },
            want=np.concatenate(list(want), axis=1),
            bound=bound,
        )

    name = f"drop-in multi_head_attention {dtype} {n}x{c}" + (f" over {m}" if m != n else "")
    work = 4 * n * m * c
    if work < _SMALL:
        return Case(name, "small", make, work)
    return Case(name, "drop-in", make, work, limit=f"fma_{dtype}")


def self_attention(n: int, m: int, d: int) -> Case:
    """In float64: one small call, where overhead is all."""

    def make() -> Contest:
        q, k, v = (exact.normal(rows, d, dtype=np.float64, seed=i) for i, rows in enumerate((n, m, m)))
        want, bound = exact.attention(q, k, v)
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.self_attention, q, k, v),
                "numpy": lambda: partial(Tutorial.self_attention, q, k, v),
                "torch": lambda: torch_peers.attention(q, k, v),
            },
            want=want,
            bound=bound,
        )

    return Case(f"drop-in self_attention {n}x{d} over {m}x{d}", "small", make, work=4 * n * m * d)


def positional_encoding(seq_len: int, d_model: int) -> Case:
    """In float64. Verified on the same rounded angles, sine and cosine wider."""

    def make() -> Contest:
        column = np.arange(d_model)
        angle = (np.arange(seq_len)[:, None] * (column / d_model)).astype(np.longdouble)
        return Contest(
            rivals={
                "tfcore": lambda: partial(drop_in.positional_encoding, seq_len, d_model),
                "numpy": lambda: partial(Tutorial.positional_encoding, seq_len, d_model),
            },
            want=np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float64),
            bound=2 * exact.unit(np.float64),
        )

    name = f"drop-in positional_encoding {seq_len}x{d_model}"
    return Case(name, "positions", make, work=8 * seq_len * d_model, limit="write")


def geometric_encoding(seq_len: int, d_model: int) -> Case:
    """The encoding of "Attention Is All You Need" in float32."""

    def make() -> Contest:
        column = np.arange(d_model)
        angle = np.arange(seq_len)[:, None] * 10000.0 ** (-2 * (column // 2) / d_model)
        return Contest(
            rivals={
                "tfcore": lambda: partial(ops.positional_encoding, seq_len, d_model, dtype=np.float32),
                "numpy": lambda: partial(plain.geometric_encoding, seq_len, d_model),
            },
            want=np.where(column % 2, np.cos(angle), np.sin(angle)),
            bound=2 * exact.unit(np.float32),
        )

    name = f"positional_encoding float32 {seq_len}x{d_model}"
    return Case(name, "positions", make, work=4 * seq_len * d_model, limit="write")
