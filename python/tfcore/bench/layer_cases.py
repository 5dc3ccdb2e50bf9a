"""The layers around attention, in float32: each function makes one case."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from .. import ops, reference
from . import exact, plain, torch_peers
from .exact import Float64
from .harness import Case, Contest, Prepare
from .plain import Array

__all__ = ["gelu", "layer_norm", "linear", "linear_gelu", "log_softmax", "rms_norm", "rotary_embedding", "softmax"]

_UNIT = exact.unit(np.float32)
_FEW = 128  # rows: below, a product is bound by its weights, which come from whichever cache holds them


# --- products --------------------------------------------------------------------------------------------------------


def linear(m: int, k: int, n: int) -> Case:
    """x @ weight.T + bias, the weights packed beforehand as a model does."""

    def make() -> Contest:
        x, weight, bias = _operands(m, k, n)
        want, bound = exact.linear(x, weight, bias)
        return Contest(
            rivals={
                "tfcore": lambda: partial(ops.PackedLinear(weight, bias), x),
                "numpy": lambda: partial(plain.linear, x, weight, bias),
                "torch": lambda: torch_peers.linear(x, weight, bias),
            },
            want=want,
            bound=bound,
        )

    limit = "fma_float32" if m >= _FEW else None
    return Case(f"linear {m}x{k} to {n}", "linear", make, work=2 * m * k * n, limit=limit)


def linear_gelu(m: int, k: int, n: int) -> Case:
    """The same followed by the exact GELU, which tfcore computes in the same pass."""

    def make() -> Contest:
        x, weight, bias = _operands(m, k, n)
        packed = ops.PackedLinear(weight, bias)
        before, bound = exact.linear(x, weight, bias)
        return Contest(
            rivals={
                "tfcore": lambda: partial(packed, x, activation="gelu"),
                "torch": lambda: torch_peers.linear_gelu(x, weight, bias),
            },
            want=reference.gelu(before),
            bound=1.13 * bound + 8 * _UNIT * np.abs(before),  # 1.13 is GELU's steepest slope
            asides={"without GELU": lambda: partial(packed, x)},
        )

    return Case(f"linear {m}x{k} to {n} with GELU", "linear", make, work=2 * m * k * n, limit="fma_float32")


def _operands(m: int, k: int, n: int) -> tuple[Array, Array, Array]:
    return exact.normal(m, k, seed=0), exact.normal(n, k, seed=1), exact.normal(n, seed=2)


# --- rows and elements: memory is the limit, x is read and the result written ----------------------------------------


def _streaming(name: str, shape: tuple[int, ...], contest: Callable[[Array, Array], Contest]) -> Case:
    """`contest` gets x and an array for tfcore's result."""

    def make() -> Contest:
        x = exact.normal(*shape, seed=0)
        return contest(x, np.empty_like(x))

    size = "x".join(map(str, shape))
    return Case(f"{name} {size}", "elementwise", make, work=2 * 4 * math.prod(shape), limit="copy")


def softmax(rows: int, width: int) -> Case:
    def contest(x: Array, out: Array) -> Contest:
        want = plain.softmax(x.astype(np.float64))
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.softmax, x, out=out),
            "numpy": lambda: partial(plain.softmax, x),
            "torch": lambda: torch_peers.softmax(x),
        }
        return Contest(rivals, want, (4 * math.sqrt(width) + 2 * np.abs(x).max() + 8) * _UNIT * want)

    return _streaming("softmax", (rows, width), contest)


def log_softmax(rows: int, width: int) -> Case:
    def contest(x: Array, out: Array) -> Contest:
        want = plain.log_softmax(x.astype(np.float64))
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.log_softmax, x, out=out),
            "numpy": lambda: partial(plain.log_softmax, x),
            "torch": lambda: torch_peers.log_softmax(x),
        }
        return Contest(rivals, want, (4 * math.sqrt(width) + 4 * np.abs(want).max() + 8) * _UNIT)

    return _streaming("log_softmax", (rows, width), contest)


def layer_norm(rows: int, width: int) -> Case:
    def contest(x: Array, out: Array) -> Contest:
        weight, bias = exact.normal(width, seed=1), exact.normal(width, seed=2)
        wide = [array.astype(np.float64) for array in (x, weight, bias)]
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.layer_norm, x, weight, bias, out=out),
            "numpy": lambda: partial(plain.layer_norm, x, weight, bias),
            "torch": lambda: torch_peers.layer_norm(x, weight, bias),
        }
        return Contest(rivals, plain.layer_norm(*wide), _row_bound(x, weight, bias))

    return _streaming("layer_norm", (rows, width), contest)


def rms_norm(rows: int, width: int) -> Case:
    def contest(x: Array, out: Array) -> Contest:
        weight = exact.normal(width, seed=1)
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.rms_norm, x, weight, out=out),
            "numpy": lambda: partial(plain.rms_norm, x, weight),
            "torch": lambda: torch_peers.rms_norm(x, weight, 1e-6),
        }
        want = plain.rms_norm(x.astype(np.float64), weight.astype(np.float64))
        return Contest(rivals, want, _row_bound(x, weight, np.zeros_like(weight)))

    return _streaming("rms_norm", (rows, width), contest)


def _row_bound(x: Array, weight: Array, bias: Array) -> Float64:
    """Of a normalised row: a mean and a mean square of `width` values, then a few roundings."""
    steps = 4 * math.sqrt(x.shape[-1]) + 8
    return np.asarray(steps * _UNIT * ((np.abs(x) + 1) * np.abs(weight) + np.abs(bias)), np.float64)


def gelu(rows: int, width: int) -> Case:
    """The exact one; NumPy has no erf."""

    def contest(x: Array, out: Array) -> Contest:
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.gelu, x, out=out),
            "torch": lambda: torch_peers.gelu(x),
        }
        return Contest(rivals, reference.gelu(x.astype(np.float64)), 8 * _UNIT * np.abs(x).astype(np.float64))

    return _streaming("gelu", (rows, width), contest)


def rotary_embedding(heads: int, length: int, size: int) -> Case:
    """(H, L, D); the peers are given cosines and sines, as a model makes them once for all its layers."""

    def contest(x: Array, out: Array) -> Contest:
        tables = plain.rotary_tables(length, size, np.float32)
        rivals: dict[str, Prepare] = {
            "tfcore": lambda: partial(ops.rotary_embedding, x, out=out),
            "numpy": lambda: partial(plain.rotary_embedding, x, *tables),
            "torch": lambda: torch_peers.rotary_embedding(x, *tables),
        }
        want = plain.rotary_embedding(x.astype(np.float64), *plain.rotary_tables(length, size, np.float64))
        return Contest(
            rivals, want, 8 * _UNIT * (np.abs(x) + np.abs(np.roll(x, size // 2, axis=-1))).astype(np.float64)
        )

    return _streaming("rotary_embedding", (heads, length, size), contest)
