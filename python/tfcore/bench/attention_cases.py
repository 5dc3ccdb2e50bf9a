"""Attention: each function makes one case. Letters as everywhere: B, H, G, L, S, D."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from .. import ops
from . import exact, onnxruntime_peers, plain, torch_peers
from .harness import Case, Contest, Prepare
from .plain import Array

__all__ = ["attention", "decode", "one_call", "rivals_on", "varlen", "window"]

_MOST_NUMPY_SCORES = 2**28  # NumPy keeps them all, a gigabyte in float32; beyond, it is left out


def rivals_on(q: Array, k: Array, v: Array, *, is_causal: bool = False) -> dict[str, Prepare]:
    """tfcore and its peers on (B, H, L, D), (B, G, S, D), (B, G, S, D)."""
    (b, h, queries, _), keys, grouped = q.shape, k.shape[-2], q.shape[1] != k.shape[1]
    hidden = exact.causal(np.arange(queries)[:, None], np.arange(keys)) if is_causal else None
    attend = partial(ops.scaled_dot_product_attention, is_causal=is_causal, enable_gqa=grouped)
    rivals: dict[str, Prepare] = {"tfcore": lambda: partial(attend, q, k, v)}
    if not grouped and b * h * queries * keys <= _MOST_NUMPY_SCORES:
        rivals["numpy"] = lambda: partial(plain.attention, q, k, v, hidden)
    rivals["torch"] = lambda: torch_peers.attention(q, k, v, is_causal=is_causal, enable_gqa=grouped)
    if q.dtype == np.float32:  # all that ONNX Runtime's operators take
        rivals["onnxruntime"] = lambda: onnxruntime_peers.attention(q, k, v, is_causal)
    return rivals


def _contest(q: Array, k: Array, v: Array, *, is_causal: bool = False) -> Contest:
    want, bound = exact.attention(q, k, v, hidden=exact.causal if is_causal else None)
    return Contest(rivals_on(q, k, v, is_causal=is_causal), want, bound)


def attention(b: int, h: int, length: int, s: int, d: int, *, causal: bool = False, dtype: str = "float32") -> Case:
    """Fused attention, (B, H, L, D) over (B, H, S, D)."""

    def make() -> Contest:
        inputs = (exact.normal(b, h, n, d, dtype=dtype, seed=i) for i, n in enumerate((length, s, s)))
        return _contest(*inputs, is_causal=causal)

    name = f"attention {dtype} {b},{h},{length},{s},{d}{' causal' * causal}"
    work = 4 * b * h * length * s * d / (2 if causal else 1)
    return Case(name, "attention", make, work, limit=f"fma_{dtype}")


def one_call(length: int, s: int, d: int) -> Case:
    """One small head: what a call costs."""
    case = attention(1, 1, length, s, d)

    def make() -> Contest:
        contest = case.make()
        return Contest({n: contest.rivals[n] for n in ("tfcore", "numpy", "torch")}, contest.want, contest.bound)

    return Case(f"one call {case.name}", "small", make, case.work)


def decode(h: int, g: int, s: int, d: int) -> Case:
    """One new token: a query for each of H heads over the S keys of G heads. Each key and value is read once."""

    def make() -> Contest:
        sizes = (1, h, 1, d), (1, g, s, d), (1, g, s, d)
        return _contest(*(exact.normal(*size, seed=i) for i, size in enumerate(sizes)))

    grouped = f" over {g} heads" if g != h else ""
    return Case(f"decode float32 1,{h},1,{s},{d}{grouped}", "decode", make, work=2 * 4 * g * s * d, limit="read")


def window(h: int, length: int, d: int, left: int) -> Case:
    """Causal attention that looks back `left` keys: tfcore skips what is hidden, torch is given a boolean mask."""

    def make() -> Contest:
        q, k, v = (exact.normal(1, h, length, d, seed=i) for i in range(3))
        attend = partial(ops.scaled_dot_product_attention, q, k, v, is_causal=True)
        visible = ~exact.window(left)(np.arange(length)[:, None], np.arange(length))
        want, bound = exact.attention(q, k, v, hidden=exact.window(left))
        return Contest(
            rivals={
                "tfcore": lambda: partial(attend, window=(left, 0)),
                "torch": lambda: torch_peers.attention(q, k, v, visible=visible),
            },
            want=want,
            bound=bound,
            asides={"without the window": lambda: attend},
        )

    visible = sum(min(i, left) + 1 for i in range(length))
    name = f"window {left} attention float32 1,{h},{length},{length},{d} causal"
    return Case(name, "attention", make, work=4 * h * d * visible, limit="fma_float32")


def varlen(lengths: Array, h: int, d: int) -> Case:
    """A batch of sequences of different lengths, packed for tfcore, padded and masked for torch."""
    ends = np.cumsum([0, *lengths])
    longest = int(max(lengths))
    inside = np.arange(longest) < np.asarray(lengths)[:, None]  # (B, L): False where padded

    def padded(x: Array) -> Array:  # (total, H, D) → (B, H, L, D)
        result = np.zeros((len(lengths), longest, h, d), np.float32)
        result[inside] = x
        return np.ascontiguousarray(result.swapaxes(1, 2))

    def packed(result: Any) -> Array:
        return np.asarray(np.asarray(result).swapaxes(1, 2)[inside])

    attend_padded = partial(ops.scaled_dot_product_attention, key_lengths=lengths)

    def make() -> Contest:
        q, k, v = arrays = [exact.normal(int(ends[-1]), h, d, seed=i) for i in range(3)]
        padded_arrays = [padded(x) for x in arrays]
        sequences = [exact.attention(*(x[start:end].swapaxes(0, 1) for x in arrays)) for start, end in pairwise(ends)]
        return Contest(
            rivals={
                "tfcore": lambda: partial(ops.attention_varlen, q, k, v, ends),
                "torch": lambda: torch_peers.attention(*padded_arrays, visible=inside[:, None, None]),
            },
            want=np.concatenate([want.swapaxes(0, 1) for want, _ in sequences]),
            bound=max(bound for _, bound in sequences),
            layouts={"torch": packed},
            asides={"padded, with key_lengths": lambda: partial(attend_padded, *padded_arrays)},
        )

    name = f"varlen float32 {len(lengths)} sequences of {min(lengths)} to {longest}, {h},{d}"
    work = 4 * h * d * float(np.square(lengths, dtype=float).sum())
    return Case(name, "attention", make, work, limit="fma_float32")
