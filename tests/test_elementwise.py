"""gelu, relu and silu against the reference, over everything from -inf to inf."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, around, layouts, normal
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, tiny, unit
from tfcore import reference

ROOT_OF_2_OVER_PI = "0.79788456080286535587989211986876"
gelu_tanh = functools.partial(tfcore.gelu, approximate="tanh")
# (operator, reference, whether the error is relative to x rather than to the result: x/2 · (1 + erf) has no better one)
FUNCTIONS = {
    "gelu": (tfcore.gelu, reference.gelu, True),
    "gelu, tanh": (gelu_tanh, functools.partial(reference.gelu, approximate="tanh"), False),
    "relu": (tfcore.relu, reference.relu, False),
    "silu": (tfcore.silu, reference.silu, False),
}


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return FUNCTIONS[request.param]


def bound(x, want, dtype, relative_to_x):
    """x · p with p in 0…1: p comes from an exponential whose argument log p is rounded a few times."""
    if relative_to_x:
        return unit(dtype) * np.abs(np.where(np.isfinite(x), x, 0.0)) * 3  # |want| <= |x|
    with np.errstate(divide="ignore", invalid="ignore"):
        argument = np.log2(want / x)
    argument = np.where(np.isfinite(argument), np.abs(argument), 0.0)
    return unit(dtype) * np.abs(want) * (8 + 2 * argument) + np.abs(x) * tiny(dtype)


def check(function, x, what=""):
    operator, plain, relative_to_x = function
    exact = np.asarray(x, np.float64)
    want = plain(exact)
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    assert_close(operator(x), want, bound=bound(exact, want, dtype, relative_to_x), dtype=dtype, what=what)


@pytest.mark.parametrize("dtype", FLOATS)
def test_lengths(machine, function, rng, dtype):
    for length in (*around(4, 8, 16, 32), 1000, 70001):
        check(function, normal(rng, length, dtype=dtype, scale=3.0), what=f"length {length}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_whole_line(isa, function, dtype):
    """Every decade from the denormals to the largest number, and closely where the functions bend and die out."""
    decades = np.logspace(-46, 38.5, 3000) if dtype == np.float32 else np.logspace(-323, 308, 9000)
    close = np.linspace(0, 120 if dtype == np.float32 else 800, 20001)
    x = np.concatenate([decades, close]).astype(dtype)
    check(function, x)
    check(function, -x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_ends(isa, function, dtype):
    """inf is its own image, -inf goes to 0 as what comes before it does, NaN stays, and 0 stays."""
    operator = function[0]
    for width in (1, 5, 16, 33):
        got = operator(np.repeat(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype), width))
        want = np.repeat(np.array([np.inf, 0.0, np.nan, 0.0, 0.0]), width)
        assert_close(got, want, bound=np.finfo(dtype).tiny, nan_equal=True)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0, 30.0])
def test_as_accurate_as_numpy(isa, rng, dtype, spread):
    x = normal(rng, 20000, dtype=dtype, scale=spread)
    exact = x.astype(np.float64) if dtype == np.float32 else x.astype(np.longdouble)

    def silu(x):
        with np.errstate(over="ignore"):
            return x / (1 + np.exp(-x))

    def tanh_gelu(x):
        t = x.dtype.type  # the constants as decimals: rounded once, to the dtype computed in
        return t("0.5") * x * (1 + np.tanh(t(ROOT_OF_2_OVER_PI) * (x + t("0.044715") * x * x * x)))

    def erf_gelu(x):  # NumPy has no erf: the form everybody writes, with the library's own erf
        half = np.array([math.erf(t / math.sqrt(2)) for t in x.tolist()])
        return (x.dtype.type(0.5) * x * (1 + half.astype(x.dtype))).astype(x.dtype)

    as_accurate_as_numpy(tfcore.silu(x), silu(x), silu(exact).astype(np.float64), "silu")
    as_accurate_as_numpy(gelu_tanh(x), tanh_gelu(x), tanh_gelu(exact).astype(np.float64), "gelu, tanh")
    if dtype == np.float32:  # there is no erf more exact than float64's to judge that one by
        as_accurate_as_numpy(tfcore.gelu(x), erf_gelu(x), reference.gelu(x.astype(np.float64)), "gelu")


def test_relu_is_exact(machine, rng):
    for dtype in FLOATS:
        x = normal(rng, 1001, dtype=dtype)
        assert np.array_equal(tfcore.relu(x), np.maximum(x, 0))


def test_shapes(function, rng):
    operator, plain, _ = function
    for shape in ((), (1,), (0,), (3, 0), (2, 3), (2, 1, 3, 5)):
        x = normal(rng, *shape)
        got = operator(x)
        assert isinstance(got, np.ndarray)
        assert got.shape == shape
        check(function, x, what=str(shape))
    assert_close(operator(1.5), plain(1.5), steps=8, magnitude=1.5, dtype=np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(machine, function, rng, dtype):
    operator = function[0]
    x = normal(rng, 3, 9, 23, dtype=dtype)
    want = operator(x)
    for name, other in layouts(x):
        assert_same_bits(operator(other), want, name)
    assert_same_bits(operator(np.broadcast_to(x[:1], x.shape)), np.broadcast_to(want[:1], x.shape))
    for name, out in layouts(np.full_like(want, np.nan)):
        if name not in ("read-only", "bytes swapped"):
            assert operator(x, out=out) is out
            assert_same_bits(out, want, name)


def test_dtypes(isa, function, rng):
    check(function, normal(rng, 300, dtype=np.float16, scale=3.0))
    for values in (rng.integers(-9, 9, 50), rng.integers(0, 9, 50).astype(np.uint8), rng.random(50) < 0.5):
        check(function, values)


def test_lists_and_dlpack(function, rng):
    operator = function[0]
    x = normal(rng, 4, 7, dtype=np.float64)
    assert_same_bits(operator(x.tolist()), operator(x))
    assert_same_bits(operator(OnlyDLPack(x)), operator(x))


def test_torch_tensors(function, rng):
    torch = pytest.importorskip("torch")
    x = normal(rng, 4, 7)
    assert_same_bits(function[0](torch.from_numpy(x)), function[0](x))
