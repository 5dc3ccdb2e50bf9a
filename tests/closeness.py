"""How close two arrays must be, and bounds that come from counting roundings.

A bound is steps · u · magnitude: u is the unit round-off of the dtype computed in, magnitude the sum of absolute values
of what is added up, steps the number of roundings on the way. Errors of a long sum partly cancel: beyond a few terms we
allow 4·√n roundings where the strict count is n, which inputs drawn at random stay below and a wrong term does not.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = [
    "as_accurate_as_numpy",
    "assert_close",
    "assert_same_bits",
    "attention_bound",
    "dot_bound",
    "roundings",
    "tiny",
    "unit",
]


def unit(dtype) -> float:
    """The relative error of one rounding; float16 is computed in float32, and integers are in float64.

    Twice that for float64, where what we compare with errs as much.
    """
    return float(np.finfo(np.float64).eps) if _in_double(dtype) else float(np.finfo(np.float32).eps) / 2


def _in_double(dtype) -> bool:
    return np.dtype(dtype).kind != "f" or np.dtype(dtype).itemsize == 8


def tiny(dtype) -> float:
    """The smallest normal number of the dtype computed in."""
    return float(np.finfo(np.float64 if _in_double(dtype) else np.float32).tiny)


def roundings(n: int) -> float:
    """Roundings that a sum of n products accumulates."""
    return min(n, 4 * math.sqrt(n)) + 2


def assert_close(got, want, *, bound=None, steps=None, magnitude=None, dtype=None, nan_equal=False, what="") -> None:
    """|got - want| <= bound everywhere, or <= steps · u · magnitude.

    A NaN fails, unless `nan_equal` and both are NaN. An infinity passes only for the same infinity. Shapes must be
    equal, and with `dtype` got's dtype too. The dtype of `got` decides u, and adds the rounding of the result itself.
    """
    got, want = np.asarray(got), np.asarray(want)
    if dtype is not None:  # whatever byte order came in, the machine's own comes out
        native = np.dtype(dtype).newbyteorder("=")
        assert got.dtype == native, f"{what}: dtype is {got.dtype}, expected {native}"
    assert got.shape == want.shape, f"{what}: shape is {got.shape}, expected {want.shape}"
    assert (bound is None) != (steps is None), "give a bound, or steps and a magnitude"
    allowed = np.asarray(steps * unit(got.dtype) * np.abs(magnitude) if bound is None else bound, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        allowed = allowed + _rounding_of_the_result(got.dtype, want)
        error = np.abs(got.astype(np.float64) - want.astype(np.float64))
    same = got == want
    if nan_equal:
        same |= np.isnan(got) & np.isnan(want)
    allowed = np.broadcast_to(allowed, got.shape)
    fine = same | (error <= allowed) & np.isfinite(want)
    if not fine.all():
        raise AssertionError(_worst(got, want, np.where(same, 0.0, error), allowed, fine, what))


def _rounding_of_the_result(dtype, want) -> np.ndarray:
    """Half a unit in the last place; what is below the smallest number becomes it or zero."""
    if dtype.kind != "f":
        return np.zeros(want.shape)
    info = np.finfo(dtype)
    return np.abs(want) * (float(info.eps) / 2) + float(info.smallest_subnormal)


def _worst(got, want, error, allowed, fine, what) -> str:
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.where(fine, -1.0, np.nan_to_num(error / allowed, nan=np.inf, posinf=np.inf))
    at = np.unravel_index(np.argmax(excess), got.shape)
    where = tuple(int(i) for i in at)
    return (
        f"{what}: {np.count_nonzero(~fine)} of {fine.size} elements are off; worst at {where}: "
        f"got {got[at]!r}, want {want[at]!r}, error {error[at]:.3g}, bound {allowed[at]:.3g}"
    )


def assert_same_bits(got, want, what="") -> None:
    """Equal dtype, shape and bytes: -0 is not 0, and a NaN is itself."""
    got, want = np.ascontiguousarray(got), np.ascontiguousarray(want)
    assert got.dtype == want.dtype, f"{what}: dtype is {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape is {got.shape}, expected {want.shape}"
    integer = f"u{got.dtype.itemsize}"
    differ = got.reshape(-1).view(integer) != want.reshape(-1).view(integer)
    if differ.any():
        at = int(np.argmax(differ))
        where = tuple(int(i) for i in np.unravel_index(at, got.shape))
        raise AssertionError(
            f"{what}: {np.count_nonzero(differ)} of {differ.size} elements differ in their bits; first at {where}: "
            f"{got.reshape(-1)[at]!r} and {want.reshape(-1)[at]!r}"
        )


def as_accurate_as_numpy(got, numpy_result, want, what="") -> None:
    """The largest error against the exact result is at most twice plain NumPy's, in the same dtype on the same input.

    Where NumPy happens to be exact, one rounding of the largest result stays allowed.
    """
    got, numpy_result, want = (np.asarray(x) for x in (got, numpy_result, want))
    assert got.dtype == numpy_result.dtype, f"{what}: dtype is {got.dtype}, NumPy's is {numpy_result.dtype}"
    assert got.shape == numpy_result.shape == want.shape, f"{what}: shapes {got.shape}, {want.shape}"
    if got.size == 0:
        return
    mine = np.max(np.abs(got.astype(np.float64) - want))
    theirs = np.max(np.abs(numpy_result.astype(np.float64) - want))
    least = float(np.finfo(got.dtype).eps) / 2 * np.max(np.abs(want))
    assert mine <= 2 * max(theirs, least), f"{what}: largest error {mine:.3g}, NumPy's {theirs:.3g}"


# --- bounds by family ------------------------------------------------------------------------------------------------


def dot_bound(a, b, dtype) -> np.ndarray:
    """For a @ b: one product and one addition for each of the K terms, on Σ |a||b|."""
    a, b = np.abs(np.asarray(a, np.float64)), np.abs(np.asarray(b, np.float64))
    return roundings(a.shape[-1]) * unit(dtype) * (a @ b)


def attention_bound(q, k, v, weights, dtype, *, scale=None, added=0.0) -> np.ndarray:
    """For softmax(scale · q kᵀ + added) v, given the exact weights (..., H, L, S) and a key/value head per query head.

    A score is off by δ = (roundings of its dot product) · u · scale · |q||k|ᵀ and a few u of it and of what is added;
    a weight then by the factor e^δ, and the row's sum by their average. Weights and sum come from exp (a few u) and are
    added up over S keys, as is the output.
    """
    q, k, v = (np.abs(np.asarray(x, np.float64)) for x in (q, k, v))
    scale = 1 / math.sqrt(max(q.shape[-1], 1)) if scale is None else abs(scale)
    u, keys = unit(dtype), k.shape[-2]
    magnitude = scale * (q @ np.swapaxes(k, -1, -2))
    delta = np.where(weights > 0, u * (roundings(q.shape[-1]) + 4) * magnitude + 4 * u * np.abs(added), 0.0)
    delta = np.expm1(np.minimum(delta, 1.0))
    average = (weights * delta).sum(axis=-1, keepdims=True)
    v = np.where(np.isfinite(v), v, 0.0)
    flushed = keys * tiny(dtype) * v.max(axis=-2, keepdims=True, initial=0.0)  # weights too small for a normal number
    return (weights * (delta + average)) @ v + (2 * roundings(keys) + 8) * u * (weights @ v) + flushed
