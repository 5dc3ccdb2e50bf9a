"""softmax, log_softmax, layer_norm and rms_norm against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, around, layouts, normal
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, roundings, tiny, unit
from tfcore import reference

WIDTHS = [*around(4, 8, 16, 32), 384, 768, 1000]


def wide(x):
    return np.asarray(x, np.float64)


def softmax_bound(x, want, axis=-1):
    """The difference x - max is rounded once, exp and the division a few times, the sum over n once per term."""
    with np.errstate(invalid="ignore"):
        below = wide(x).max(axis=axis, keepdims=True, initial=-np.inf) - wide(x)
    below = np.where(want > 0, below, 0.0)
    average = (want * below).sum(axis=axis, keepdims=True)
    return unit(x.dtype) * want * (below + average + roundings(x.shape[axis]) + 8) + tiny(x.dtype)


def log_softmax_bound(x, want, axis=-1):
    """As above, but for the logarithm: what is relative in the sum is absolute in its logarithm."""
    below = wide(x).max(axis=axis, keepdims=True, initial=-np.inf) - wide(x)
    below = np.where(want > -np.inf, below, 0.0)
    average = (np.exp(want) * below).sum(axis=axis, keepdims=True)
    size = below + np.abs(np.where(want > -np.inf, want, 0.0))
    return unit(x.dtype) * (2 * size + average + roundings(x.shape[axis]) + 4) + tiny(x.dtype)


def norm_bound(x, want, weight, bias, eps, centred):
    """The mean is off by `shift`; the sum of squares by n roundings and by what the shift does; then a few more."""
    u, x = unit(x.dtype), wide(x)
    n = roundings(x.shape[-1])

    def mean(a):
        return a.sum(axis=-1, keepdims=True) / max(x.shape[-1], 1)

    smallest = float(np.finfo(np.float64 if u < 1e-10 else np.float32).smallest_subnormal)
    shift = u * n * mean(np.abs(x)) + 2 * smallest if centred else np.zeros(1)
    away = x - mean(x) if centred else x
    variance = mean(away**2)
    shift = shift + u * np.abs(away)
    relative = (mean(2 * shift * np.abs(away)) / (variance + eps) + n * u) / 2 + 4 * u
    scaled = np.abs(away) / np.sqrt(variance + eps)
    size = 1.0 if weight is None else np.abs(wide(weight))
    added = 0.0 if bias is None else np.abs(wide(bias))
    return size * (shift / np.sqrt(variance + eps) + scaled * relative) + 2 * u * (size * scaled + added)


def check_softmax(x, axis=-1, what=""):
    want = reference.softmax(wide(x), axis)
    got = tfcore.softmax(x, axis)
    assert_close(got, want, bound=softmax_bound(x, want, axis), dtype=x.dtype, what=what)


def check_log_softmax(x, axis=-1, what=""):
    want = reference.log_softmax(wide(x), axis)
    got = tfcore.log_softmax(x, axis)
    assert_close(got, want, bound=log_softmax_bound(x, want, axis), dtype=x.dtype, what=what)


def check_layer_norm(x, weight=None, bias=None, eps=1e-5, what=""):
    want = reference.layer_norm(*(None if a is None else wide(a) for a in (x, weight, bias)), eps=eps)
    bound = norm_bound(x, want, weight, bias, eps, centred=True)
    assert_close(tfcore.layer_norm(x, weight, bias, eps=eps), want, bound=bound, dtype=x.dtype, what=what)


def check_rms_norm(x, weight=None, eps=1e-6, what=""):
    want = reference.rms_norm(wide(x), None if weight is None else wide(weight), eps=eps)
    bound = norm_bound(x, want, weight, None, eps, centred=False)
    assert_close(tfcore.rms_norm(x, weight, eps=eps), want, bound=bound, dtype=x.dtype, what=what)


@pytest.mark.parametrize("dtype", FLOATS)
def test_widths(machine, rng, dtype):
    for width in WIDTHS:
        for rows in (1, 7):
            x = normal(rng, rows, width, dtype=dtype, scale=3.0)
            weight, bias = normal(rng, width, dtype=dtype), normal(rng, width, dtype=dtype)
            check_softmax(x, what=f"width {width}")
            check_log_softmax(x, what=f"width {width}")
            for w, b in ((None, None), (weight, None), (weight, bias), (None, bias)):
                check_layer_norm(x + dtype(1), w, b, what=f"width {width}")
            for w in (None, weight):
                check_rms_norm(x, w, what=f"width {width}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_shapes(rng, dtype):
    for shape in ((5,), (1, 5), (3, 2, 5), (2, 1, 3, 5), (0, 5), (2, 0, 5), (3, 0), (0,), (2, 3, 1)):
        x = normal(rng, *shape, dtype=dtype)
        weight = normal(rng, shape[-1], dtype=dtype)
        check_softmax(x, what=str(shape))
        check_log_softmax(x, what=str(shape))
        check_layer_norm(x, weight, weight, what=str(shape))
        check_rms_norm(x, weight, what=str(shape))


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_axes(machine, rng, dtype):
    x = normal(rng, 4, 33, 5, dtype=dtype)
    for axis in (-3, -2, -1, 0, 1, 2):
        check_softmax(x, axis, what=f"axis {axis}")
        check_log_softmax(x, axis, what=f"axis {axis}")
        for operator in (tfcore.softmax, tfcore.log_softmax):
            moved = np.moveaxis(operator(np.moveaxis(x, axis, -1)), -1, axis)
            assert_same_bits(operator(x, axis), moved, f"axis {axis}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("operator", [tfcore.softmax, tfcore.log_softmax])
@pytest.mark.parametrize("shape", [(1, 70), (15, 16), (16, 65), (31, 4), (33, 129), (257, 3), (600, 90), (2, 40, 200)])
def test_columns_have_the_bits_of_rows(machine, rng, operator, shape, dtype):
    x = normal(rng, *shape, dtype=dtype, scale=4)
    x[..., 0, 0], x[..., -1, 1], x[..., :, 2] = -np.inf, np.nan, -np.inf
    want = np.moveaxis(operator(np.ascontiguousarray(np.moveaxis(x, -2, -1))), -1, -2)
    assert_same_bits(operator(x, axis=-2), want)
    assert_same_bits(operator(np.asfortranarray(x), axis=-2), want, "Fortran order")
    out = np.empty_like(x, order="F")
    assert operator(x, axis=-2, out=out) is out
    assert_same_bits(out, want, "out in Fortran order")
    assert_same_bits(operator(x, axis=-2, out=x), want, "in place")


@pytest.mark.parametrize("eps", [0.0, 1e-12, 1e-5, 0.5])
def test_eps(machine, rng, eps):
    for dtype in FLOATS:
        x = normal(rng, 5, 40, dtype=dtype, scale=1e-2)
        check_layer_norm(x, eps=eps)
        check_rms_norm(x, eps=eps)


# --- hostile values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_of_large_values(isa, rng, dtype):
    for size in (1e2, 1e4, 1e30):
        x = normal(rng, 9, 50, dtype=dtype, scale=size)
        check_softmax(x, what=f"{size}")
        check_log_softmax(x, what=f"{size}")
        assert_close(tfcore.softmax(np.full((2, 50), size, dtype)), np.full((2, 50), 0.02), steps=8, magnitude=0.02)


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_between_the_smallest_numbers_and_zero(isa, dtype):
    edge = 87.34 if dtype == np.float32 else 708.4
    for difference in (edge - 1, edge, edge + 1, edge + 15, edge + 40, 1e6):
        check_softmax(np.array([[0.0, -difference, -difference / 2]], dtype), what=str(difference))
        check_log_softmax(np.array([[0.0, -difference, -difference / 2]], dtype), what=str(difference))


def test_softmax_of_infinities(isa):
    inf = np.inf
    x = np.array([[0, -inf, 1, -inf], [-inf, -inf, -inf, -inf], [inf, 0, 0, 0], [0, np.nan, 0, 0], [inf, -inf, 0, inf]])
    for dtype in FLOATS:
        want = reference.softmax(x)
        assert np.array_equal(np.isnan(want).all(axis=-1), [False, True, True, True, True])
        assert_close(tfcore.softmax(x.astype(dtype)), want, steps=8, magnitude=1.0, nan_equal=True)
        want = reference.log_softmax(x)
        assert np.array_equal(want[0, [1, 3]], [-np.inf, -np.inf])
        assert_close(tfcore.log_softmax(x.astype(dtype)), want, steps=8, magnitude=1.0, nan_equal=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_layer_norm_of_a_large_mean(isa, rng, dtype):
    """The naive E[x²] - mean² would cancel to nothing here."""
    x = normal(rng, 6, 300, dtype=dtype) + dtype(1e4)
    check_layer_norm(x)
    assert_close(tfcore.layer_norm(np.full((2, 300), 12345.678, dtype)), np.zeros((2, 300)), bound=1.0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_constant_and_zero_rows(isa, dtype):
    for value in (0.0, 1.0, -3.0, 2.0**20):
        x = np.full((2, 64), value, dtype)
        assert np.all(tfcore.layer_norm(x) == 0), value
        check_rms_norm(x, what=str(value))


@pytest.mark.parametrize("dtype", FLOATS)
def test_denormal_rows(isa, rng, dtype):
    x = normal(rng, 3, 40, dtype=np.float64, scale=1e-41 if dtype == np.float32 else 1e-310).astype(dtype)
    check_rms_norm(x)
    check_layer_norm(x)
    check_softmax(x)
    check_log_softmax(x)


@pytest.mark.parametrize("norm", [tfcore.softmax, tfcore.log_softmax, tfcore.layer_norm, tfcore.rms_norm])
def test_a_nan_stays_in_its_row(machine, rng, norm):
    for width in (5, 64, 100):
        x = normal(rng, 9, width)
        want = norm(x)
        for poison in (np.nan, np.inf):
            for column in (0, width // 2, width - 1):
                bad = x.copy()
                bad[4, column] = poison
                got = norm(bad)
                assert_same_bits(np.delete(got, 4, axis=0), np.delete(want, 4, axis=0))
                assert np.isnan(got[4, column])


# --- accuracy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("width", [64, 768, 3000])
def test_as_accurate_as_numpy(isa, rng, dtype, offset, width):
    x = normal(rng, 200, width, dtype=dtype, scale=4.0) + dtype(offset)
    weight, bias = normal(rng, width, dtype=dtype), normal(rng, width, dtype=dtype)
    exact = x.astype(np.longdouble)

    def softmax(x):
        powers = np.exp(x - x.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def layer_norm(x):
        away = x - x.mean(axis=-1, keepdims=True)
        return away / np.sqrt((away * away).mean(axis=-1, keepdims=True) + x.dtype.type(1e-5)) * weight + bias

    def rms_norm(x):
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + x.dtype.type(1e-6)) * weight

    for got, form in (
        (tfcore.softmax(x), softmax),
        (tfcore.layer_norm(x, weight, bias), layer_norm),
        (tfcore.rms_norm(x, weight), rms_norm),
    ):
        as_accurate_as_numpy(got, form(x), form(exact).astype(np.float64), form.__name__)


# --- inputs and outputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(machine, rng, dtype):
    x, weight, bias = normal(rng, 3, 9, 23, dtype=dtype), normal(rng, 23, dtype=dtype), normal(rng, 23, dtype=dtype)
    softmax, columns = tfcore.softmax(x), tfcore.softmax(x, axis=1)
    layer, rms = tfcore.layer_norm(x, weight, bias), tfcore.rms_norm(x, weight)
    for name, other in layouts(x):
        assert_same_bits(tfcore.softmax(other), softmax, name)
        assert_same_bits(tfcore.softmax(other, axis=1), columns, name)
        assert_same_bits(tfcore.layer_norm(other, weight, bias), layer, name)
        assert_same_bits(tfcore.rms_norm(other, weight), rms, name)
    for (name, w), (_, b) in zip(layouts(weight), layouts(bias), strict=True):
        assert_same_bits(tfcore.layer_norm(x, w, b), layer, f"weight {name}")
        assert_same_bits(tfcore.rms_norm(x, w), rms, f"weight {name}")
    rows = np.broadcast_to(x[:1, :1], x.shape)
    assert_same_bits(tfcore.layer_norm(rows, weight, bias), np.broadcast_to(layer[:1, :1], x.shape))


@pytest.mark.parametrize("dtype", FLOATS)
def test_out(machine, rng, dtype):
    x, weight, bias = normal(rng, 3, 9, 23, dtype=dtype), normal(rng, 23, dtype=dtype), normal(rng, 23, dtype=dtype)
    calls = [
        lambda **out: tfcore.softmax(x, **out),
        lambda **out: tfcore.softmax(x, 0, **out),
        lambda **out: tfcore.layer_norm(x, weight, bias, **out),
        lambda **out: tfcore.rms_norm(x, weight, **out),
    ]
    for call in calls:
        want = call()
        for name, out in layouts(np.full_like(want, np.nan)):
            if name not in ("read-only", "bytes swapped"):
                assert call(out=out) is out
                assert_same_bits(out, want, name)


def test_dtypes(isa, rng):
    x, weight = normal(rng, 4, 30, dtype=np.float16), normal(rng, 30, dtype=np.float16)
    check_softmax(x)
    check_layer_norm(x, weight, weight)
    check_rms_norm(x, weight)
    for values in (rng.integers(-9, 9, (4, 30)), rng.random((4, 30)) < 0.5, np.arange(30, dtype=np.uint8)):
        for name in ("softmax", "layer_norm", "rms_norm"):
            want = getattr(reference, name)(values)
            assert_close(getattr(tfcore, name)(values), want, steps=60, magnitude=6.0, dtype=np.float64, what=name)
    mixed = tfcore.layer_norm(x.astype(np.float32), weight.astype(np.float64))
    assert_close(mixed, reference.layer_norm(wide(x), wide(weight)), steps=60, magnitude=20.0, dtype=np.float64)


def test_lists_dlpack_and_torch(rng):
    x, weight = normal(rng, 4, 7, dtype=np.float64), normal(rng, 7, dtype=np.float64)
    for convert in (np.ndarray.tolist, OnlyDLPack):
        assert_same_bits(tfcore.softmax(convert(x)), tfcore.softmax(x))
        assert_same_bits(tfcore.layer_norm(convert(x), convert(weight)), tfcore.layer_norm(x, weight))
        assert_same_bits(tfcore.rms_norm(convert(x), convert(weight)), tfcore.rms_norm(x, weight))


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    x = normal(rng, 4, 7)
    assert_same_bits(tfcore.softmax(torch.from_numpy(x)), tfcore.softmax(x))
    assert_same_bits(tfcore.layer_norm(torch.from_numpy(x)), tfcore.layer_norm(x))
