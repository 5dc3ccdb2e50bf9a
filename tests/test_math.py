"""The elementary functions under the kernels, each against a wider one, in units of the last place."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tfcore import _core

# The largest error measured, rounded up, in ulp; erf's bound in float64 allows for the reference's own rounding.
BOUNDS = {"exp2": 1.2, "exp": 1.25, "tanh": 1.4, "erf": 2.1, "sin": 1.0, "cos": 1.0}
RANGES = {
    "exp2": (-126, 127),
    "exp": (-87, 88),
    "tanh": (-20, 20),
    "erf": (-6, 6),
    "sin": (-2e7, 2e7),
    "cos": (-2e7, 2e7),
}
FLOATS = [np.float32, np.float64]


def exact(name, x):
    wide = x.astype(np.longdouble)
    if name != "erf":
        return getattr(np, name)(wide)
    return np.array([math.erf(float(t)) for t in x], np.longdouble)


def ulps(got, want):
    spacing = np.spacing(np.maximum(np.abs(want).astype(got.dtype), np.finfo(got.dtype).tiny))
    return np.abs(got - want) / spacing.astype(np.longdouble)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BOUNDS)
def test_error_in_ulp(isa, rng, name, dtype):
    low, high = RANGES[name]
    near_zero = rng.standard_normal(20_000) * 10.0 ** rng.uniform(-6, 0, 20_000)
    x = np.concatenate([rng.uniform(low, high, 60_000), near_zero]).astype(dtype)
    error = ulps(_core.vector_math(name, x), exact(name, x))
    bound = BOUNDS[name] + (1.0 if name == "erf" and dtype == np.float64 else 0.0)
    worst = int(np.argmax(error))
    assert np.all(error <= bound), f"{name}({x[worst]!r}) is off by {float(error[worst]):.2f} ulp, bound {bound}"


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values(isa, dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0], dtype)
    wanted = {
        "exp": [np.nan, np.inf, 0, 1],
        "exp2": [np.nan, np.inf, 0, 1],
        "tanh": [np.nan, 1, -1, 0],
        "erf": [np.nan, 1, -1, 0],
        "sin": [np.nan, np.nan, np.nan, 0],
        "cos": [np.nan, np.nan, np.nan, 1],
    }
    for name, values in wanted.items():
        np.testing.assert_array_equal(_core.vector_math(name, special), np.array(values, dtype), err_msg=name)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_beyond_the_vector_reduction(isa, name):
    x = np.array([1.7e7, -3e9, 1e15, 1e300, 0.5])
    np.testing.assert_allclose(_core.vector_math(name, x), getattr(np, name)(x), rtol=1e-15, atol=1e-16)
