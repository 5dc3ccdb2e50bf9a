"""tfcore.drop_in against the NumPy code of the tutorial, which it stands in for."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from arrays import normal
from closeness import as_accurate_as_numpy, assert_close, attention_bound
from tfcore import drop_in
from tfcore.bench.plain import Tutorial

NAMES = ["self_attention", "multi_head_attention", "positional_encoding"]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_signature(name):
    mine, theirs = inspect.signature(getattr(drop_in, name)), inspect.signature(getattr(Tutorial, name))
    assert [(p.name, p.kind, p.default) for p in mine.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


def test_nothing_else_is_exported():
    assert sorted(drop_in.__all__) == sorted(NAMES)


def attention_of(q, k, v, num_heads):
    """The tutorial's numbers, and the bound of each head."""
    want, bounds = Tutorial.multi_head_attention(q, k, v, num_heads), []
    for a, b, c in zip(*(np.split(x.astype(np.float64), num_heads, axis=1) for x in (q, k, v)), strict=True):
        scores = a @ b.T / np.sqrt(b.shape[1])
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        bounds.append(attention_bound(a, b, c, weights, np.float64))
    return want, np.concatenate(bounds, axis=1)


@pytest.mark.parametrize(
    ("n", "m", "width", "heads"), [(1, 5, 64, 8), (5, 5, 64, 1), (64, 64, 128, 4), (130, 70, 96, 12), (1, 1, 8, 8)]
)
def test_multi_head_attention(machine, rng, n, m, width, heads):
    q, k, v = (normal(rng, rows, width, dtype=np.float64) for rows in (n, m, m))
    want, bound = attention_of(q, k, v, heads)
    assert_close(drop_in.multi_head_attention(q, k, v, num_heads=heads), want, bound=bound, dtype=np.float64)
    if heads == 8:
        assert_close(drop_in.multi_head_attention(q, k, v), want, bound=bound, dtype=np.float64)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 5, 64), (3, 4, 1), (33, 65, 17), (200, 300, 64)])
def test_self_attention(machine, rng, n, m, d):
    q, k, v = (normal(rng, rows, d, dtype=np.float64) for rows in (n, m, m))
    want, bound = attention_of(q, k, v, 1)
    assert_close(drop_in.self_attention(q, k, v), want, bound=bound, dtype=np.float64)


def test_integers_as_a_tutorial_prints_them(isa):
    query, key = np.array([[1, 0, 1, 0]]), np.array([[1, 0, 1, 0], [0, 2, 0, 2]])
    value = np.array([[1, 2], [3, 4]])
    want = Tutorial.self_attention(query, key, value)
    assert_close(drop_in.self_attention(query, key, value), want, steps=16, magnitude=4.0, dtype=np.float64)


def test_values_may_be_wider(isa, rng):
    q, k, v = (normal(rng, *shape, dtype=np.float64) for shape in ((6, 32), (9, 32), (9, 80)))
    want = Tutorial.multi_head_attention(q, k, v)
    assert_close(drop_in.multi_head_attention(q, k, v), want, steps=60, magnitude=3.0, dtype=np.float64)


def test_finite_where_the_tutorial_overflows(isa, rng):
    q, k, v = (normal(rng, 20, 64, dtype=np.float64, scale=100.0) for _ in range(3))
    with np.errstate(over="ignore", invalid="ignore"):
        assert np.isnan(Tutorial.multi_head_attention(q, k, v)).any()
    assert np.all(np.isfinite(drop_in.multi_head_attention(q, k, v)))
    assert np.all(np.isfinite(drop_in.self_attention(q, k, v)))


@pytest.mark.parametrize(("seq_len", "d_model"), [(1, 1), (10, 7), (50, 64), (0, 4), (3, 2), (1000, 512)])
def test_positional_encoding(machine, seq_len, d_model):
    """The same rounded angles, so only sine and cosine themselves can differ, by a unit in the last place."""
    want = Tutorial.positional_encoding(seq_len, d_model)
    got = drop_in.positional_encoding(seq_len, d_model)
    assert_close(got, want, steps=1, magnitude=np.abs(want), dtype=np.float64)


def test_as_accurate_as_the_tutorial(isa, rng):
    q, k, v = (normal(rng, 300, 64, dtype=np.float64) for _ in range(3))
    wider = [x.astype(np.longdouble) for x in (q, k, v)]
    powers = np.exp(np.einsum("id,jd->ij", *wider[:2]) / 8)
    want = np.einsum("ij,jd->id", powers, wider[2]) / powers.sum(axis=1, keepdims=True)
    got = drop_in.self_attention(q, k, v)
    as_accurate_as_numpy(got, Tutorial.self_attention(q, k, v), want.astype(np.float64))


def test_what_does_not_split_into_heads_is_refused(rng):
    q = normal(rng, 5, 30)
    with pytest.raises(ValueError, match="8"):
        drop_in.multi_head_attention(q, q, q)
