"""The comparisons of the other tests can fail."""

from __future__ import annotations

import numpy as np
import pytest
from arrays import normal
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, attention_bound, dot_bound, roundings, unit


@pytest.fixture
def product(rng):
    a, b = normal(rng, 7, 65), normal(rng, 65, 33)
    want = a.astype(np.float64) @ b.astype(np.float64)
    return a @ b, want, dot_bound(a, b, np.float32)


def test_numpy_passes(product):
    got, want, bound = product
    assert_close(got, want, bound=bound, dtype=np.float32)


@pytest.mark.parametrize("at", [(0, 0), (6, 32), (3, 17)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_two_bounds_off_raises(product, at, sign):
    got, want, bound = product
    got[at] = want[at] + sign * 2 * bound[at]
    with pytest.raises(AssertionError, match=rf"1 of 231 elements are off; worst at \({at[0]}, {at[1]}\): got"):
        assert_close(got, want, bound=bound)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_poison_raises(product, poison):
    got, want, bound = product
    got[-1, -1] = poison
    with pytest.raises(AssertionError, match=r"worst at \(6, 32\)"):
        assert_close(got, want, bound=bound)


@pytest.mark.parametrize("bound", [np.inf, np.nan])
def test_a_useless_bound_lets_no_nan_through(bound):
    with pytest.raises(AssertionError):
        assert_close([np.nan], [1.0], bound=bound)
    with pytest.raises(AssertionError):
        assert_close([1.0], [np.nan], bound=bound)


def test_a_dropped_tail_raises(product):
    got, want, bound = product
    with pytest.raises(AssertionError, match="shape"):
        assert_close(got[:, :-1], want, bound=bound)
    with pytest.raises(AssertionError, match="shape"):
        assert_close(got.reshape(-1)[:-1], want.reshape(-1), bound=np.inf)


def test_a_dropped_term_raises(rng):
    """The bound of a long dot product is small enough to see one missing term."""
    a, b = normal(rng, 40, 512), normal(rng, 512, 40)
    got = a[:, :-1] @ b[:-1]
    with pytest.raises(AssertionError):
        assert_close(got, a.astype(np.float64) @ b.astype(np.float64), bound=dot_bound(a, b, np.float32))


def test_the_wrong_dtype_raises():
    with pytest.raises(AssertionError, match="dtype"):
        assert_close(np.ones(3, np.float32), np.ones(3), bound=0, dtype=np.float64)


def test_equal_infinities_pass_and_others_do_not():
    assert_close([np.inf, -np.inf], [np.inf, -np.inf], bound=0)
    with pytest.raises(AssertionError, match=r"worst at \(0,\)"):
        assert_close([np.inf], [-np.inf], bound=np.inf)
    with pytest.raises(AssertionError):
        assert_close([1.0], [np.inf], bound=np.inf)


def test_nan_passes_only_where_asked():
    with pytest.raises(AssertionError):
        assert_close([np.nan], [np.nan], bound=0)
    assert_close([np.nan, 1.0], [np.nan, 1.0], bound=0, nan_equal=True)
    with pytest.raises(AssertionError):
        assert_close([np.nan, 1.0], [1.0, np.nan], bound=np.inf, nan_equal=True)


def test_steps_count_in_the_dtype_of_the_result():
    for dtype in (np.float32, np.float64):
        u = unit(dtype)
        got = np.ones(3, dtype)
        assert_close(got, got * (1 + 4 * np.float64(u)), steps=4, magnitude=1.0)
        with pytest.raises(AssertionError):
            assert_close(got, got * (1 + 12 * np.float64(u)), steps=4, magnitude=1.0)


def test_the_result_may_be_rounded_and_no_more():
    exact = np.float64(1) / 3
    assert_close(np.float32(exact), exact, bound=0)
    with pytest.raises(AssertionError):
        assert_close(np.nextafter(np.float32(exact), np.float32(1)), exact, bound=0)


def test_a_bound_or_steps():
    with pytest.raises(AssertionError, match="bound"):
        assert_close([1.0], [1.0])
    with pytest.raises(AssertionError, match="bound"):
        assert_close([1.0], [1.0], bound=0, steps=1, magnitude=1)


def test_same_bits_sees_every_bit():
    x = np.array([0.0, 1.0, np.nan], np.float32)
    assert_same_bits(x, x.copy())
    for i, other in enumerate([-0.0, np.nextafter(np.float32(1), np.float32(2)), -np.nan]):
        y = x.copy()
        y[i] = other
        with pytest.raises(AssertionError, match=rf"first at \({i},\)"):
            assert_same_bits(x, y)
    with pytest.raises(AssertionError, match="dtype"):
        assert_same_bits(x, x.astype(np.float64))
    with pytest.raises(AssertionError, match="shape"):
        assert_same_bits(x, x[:2])


def test_as_accurate_as_numpy_can_fail():
    want = np.linspace(1, 2, 9)
    theirs = want.astype(np.float32)
    as_accurate_as_numpy(theirs, theirs, want)
    for worse in (theirs + np.float32(5e-7), np.where(want > 1.9, np.nan, theirs).astype(np.float32)):
        with pytest.raises(AssertionError, match="largest error"):
            as_accurate_as_numpy(worse, theirs, want)


def test_roundings_are_at_least_one_each_and_grow_slowly():
    assert roundings(1) >= 1
    assert roundings(10**6) < 10**4


def test_attention_bound_sees_a_forgotten_key(rng):
    q, k, v = (normal(rng, 2, n, 64) for n in (5, 200, 200))
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) / 8
    weights = np.exp(scores)
    weights /= weights.sum(axis=-1, keepdims=True)
    want = weights @ v
    bound = attention_bound(q, k, v, weights, np.float32)
    assert_close(want.astype(np.float32), want, bound=bound)
    forgetful = weights[..., :-1] @ v[:, :-1]
    with pytest.raises(AssertionError):
        assert_close(forgetful.astype(np.float32), want, bound=bound)
