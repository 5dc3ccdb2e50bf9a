"""Attention against the reference: lengths around the tiles, head sizes, restrictions, layouts and hostile values."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, around, layouts, normal, read_only
from closeness import as_accurate_as_numpy, assert_close, assert_same_bits, attention_bound
from tfcore import reference

attend = tfcore.scaled_dot_product_attention


def wide(x):
    return np.asarray(x, np.float64)


def oracle(q, k, v, mask=None, **options):
    """The exact result, the exact weights, and the bound for the dtype of q."""
    mask64 = mask if mask is None or mask.dtype == bool else wide(mask)
    want, weights = reference.scaled_dot_product_attention(
        wide(q), wide(k), wide(v), mask64, return_weights=True, **options
    )
    repeat = (q.shape[-3] // k.shape[-3]) if q.ndim > 2 and q.shape[-3] != k.shape[-3] else 1
    k, v = (np.repeat(x, repeat, axis=-3) if repeat > 1 else x for x in (k, v))
    bound = attention_bound(q, k, v, weights, q.dtype, scale=options.get("scale"), added=added(q, k, mask, options))
    return want, weights, bound


def added(q, k, mask, options):
    """The size of what is added to the scores, for the bound."""
    length, keys = q.shape[-2], k.shape[-2]
    size = np.asarray(options.get("softcap", 0.0))
    if mask is not None and mask.dtype != bool:
        size = size + np.where(np.isfinite(mask), np.abs(mask), 0.0)
    slopes = options.get("alibi_slopes")
    if slopes is not None:
        reach = max(length, keys) + np.max(np.abs(options.get("query_offset", 0)))
        size = size + (np.abs(slopes) * reach)[:, None, None]
    return size


def check(q, k, v, mask=None, what="", **options):
    want, _, bound = oracle(q, k, v, mask, **options)
    got = attend(q, k, v, mask, **options)
    assert_close(got, want, bound=bound, dtype=q.dtype, what=what or str(options))
    return got


# --- sizes -----------------------------------------------------------------------------------------------------------

LENGTHS = around(12, 16, 32, 64, 128)
SHIFTS = (0, 3, 8)  # three query lengths for each key length: every edge meets an edge, and a middle
PAIRS = [(LENGTHS[i], LENGTHS[(i + shift) % len(LENGTHS)]) for shift in SHIFTS for i in range(len(LENGTHS))]


def seeded(length, keys, size, value_size, dtype, heads=2, groups=1):
    rng = np.random.default_rng([length, keys, size, value_size])
    return (
        normal(rng, heads, length, size, dtype=dtype),
        normal(rng, groups, keys, size, dtype=dtype),
        normal(rng, groups, keys, value_size, dtype=dtype),
    )


@functools.cache
def sized(length, keys, size, value_size, dtype, causal):
    """The reference takes longer than what it checks, so each case is computed once for all instruction sets."""
    q, k, v = seeded(length, keys, size, value_size, dtype)
    options = {"enable_gqa": True, "is_causal": causal, "query_offset": keys - length if causal else 0}
    return q, k, v, options, *oracle(q, k, v, **options)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("causal", [False, True])
def test_lengths(machine, dtype, causal):
    for length, keys in PAIRS:
        q, k, v, options, want, _, bound = sized(length, keys, 16, 16, dtype, causal)
        assert_close(attend(q, k, v, **options), want, bound=bound, dtype=dtype, what=f"L={length} S={keys}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_head_sizes(machine, dtype):
    sizes = [1, 2, 3, 8, 16, 17, 31, 32, 33, 64, 80, 96, 128, 256]
    for size, value_size in [*zip(sizes, sizes, strict=True), *zip(sizes, sizes[5:] + sizes[:5], strict=True)]:
        q, k, v, options, want, _, bound = sized(21, 45, size, value_size, dtype, False)
        assert_close(attend(q, k, v, **options), want, bound=bound, dtype=dtype, what=f"D={size} Dv={value_size}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_long_keys(machine, dtype):
    """Many blocks of keys: one query as in generation, a few, and more than one block of queries."""
    for length, keys in ((1, 3001), (3, 1030), (70, 1030)):
        for causal in (False, True):
            q, k, v, options, want, _, bound = sized(length, keys, 64, 64, dtype, causal)
            assert_close(attend(q, k, v, **options), want, bound=bound, dtype=dtype, what=f"L={length} S={keys}")


@pytest.mark.parametrize("dtype", FLOATS)
def test_leading_dimensions(rng, dtype):
    for lead in ((), (1,), (3,), (2, 3), (2, 1, 2, 3), (0, 2), (2, 0)):
        q, k, v = (normal(rng, *lead, n, 8, dtype=dtype) for n in (5, 7, 7))
        if len(lead) == 1:
            check(q, k, v, what=f"heads {lead}")
        else:
            got = check(q, k, v, what=f"lead {lead}")
            assert got.shape == (*lead, 5, 8)


def test_weights_of_heads_without_values(rng):
    """What a head asks for of the next one is counted in vectors of values: here there are none."""
    q = rng.standard_normal((2, 2, 5, 8), dtype=np.float32)
    got = tfcore.scaled_dot_product_attention(q, q, np.zeros((2, 2, 5, 0), np.float32), return_weights=True)
    want = tfcore.scaled_dot_product_attention(q, q, q, return_weights=True)
    assert got[0].shape == (2, 2, 5, 0)
    assert_same_bits(got[1], want[1])


def test_zero_sizes(rng):
    for lead, length, keys, size, value_size in [
        ((2, 3), 0, 5, 4, 4),
        ((2, 3), 4, 0, 4, 4),
        ((2, 3), 4, 5, 4, 0),
        ((2, 3), 4, 5, 0, 4),
        ((0, 3), 4, 5, 4, 4),
        ((), 0, 0, 4, 4),
    ]:
        q, k, v = (normal(rng, *lead, n, d) for n, d in ((length, size), (keys, size), (keys, value_size)))
        got = check(q, k, v, what=f"{lead} L={length} S={keys} D={size} Dv={value_size}")
        if keys == 0:
            assert np.all(got == 0)


@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (4, 1), (6, 3), (12, 4)])
def test_grouped_heads(machine, heads, groups, rng):
    q, k, v = (normal(rng, 2, h, n, 16) for h, n in ((heads, 9), (groups, 20), (groups, 20)))
    check(q, k, v, enable_gqa=True)
    check(q[:, :, :1], k, v, enable_gqa=True, is_causal=True, query_offset=19)


# --- restrictions and score changes ----------------------------------------------------------------------------------


def three(rng, dtype=np.float32, batch=2, heads=3, length=37, keys=53, size=16):
    return tuple(normal(rng, batch, heads, n, size, dtype=dtype) for n in (length, keys, keys))


OPTIONS = {
    "causal": {"is_causal": True},
    "causal, aligned at the end": {"is_causal": True, "query_offset": 16},
    "causal, queries before the keys": {"is_causal": True, "query_offset": -20},
    "causal, an offset per batch": {"is_causal": True, "query_offset": np.array([3, -40])},
    "key lengths": {"key_lengths": np.array([53, 17])},
    "key lengths, one empty": {"key_lengths": np.array([0, 1])},
    "window": {"window": (5, 3)},
    "window, left": {"window": (4, 0)},
    "window, right": {"window": (-1, 4)},
    "window of one": {"window": (0, 0), "query_offset": 7},
    "window, open": {"window": (-1, -1)},
    "window, far off": {"window": (2, 2), "query_offset": 1000},
    "scale": {"scale": 0.5},
    "scale zero": {"scale": 0.0},
    "scale negative": {"scale": -0.3},
    "softcap": {"softcap": 1.5},
    "softcap, wide": {"softcap": 50.0, "scale": 4.0},
    "alibi": {"alibi_slopes": np.array([0.25, 0.0625, 1.0])},
    "alibi, offset": {"alibi_slopes": np.array([0.5, 0.0, 0.1]), "query_offset": np.array([16, 0])},
    "sinks": {"sinks": np.array([0.5, -3.0, 4.0])},
    "sinks, none and all": {"sinks": np.array([-np.inf, 80.0, 0.0])},
    "all": {
        "is_causal": True,
        "query_offset": np.array([16, 2]),
        "key_lengths": np.array([50, 31]),
        "window": (20, 5),
        "scale": 0.2,
        "softcap": 3.0,
        "alibi_slopes": np.array([0.25, 0.0625, 0.01]),
        "sinks": np.array([0.5, -3.0, 1.0]),
    },
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(machine, rng, name, dtype):
    check(*three(rng, dtype), **OPTIONS[name])


def masks(rng, batch, heads, length, keys):
    """Every broadcast form, in every kind, and in layouts that are not contiguous."""
    shapes = [
        (keys,),
        (1,),
        (),
        (length, keys),
        (1, keys),
        (length, 1),
        (heads, 1, keys),
        (heads, length, keys),
        (1, length, keys),
        (batch, 1, 1, keys),
        (batch, 1, length, keys),
        (1, heads, length, keys),
        (batch, heads, 1, 1),
        (batch, heads, length, keys),
    ]
    for shape in shapes:
        seen = np.asarray(rng.random(shape) < 0.7)
        bias = np.where(seen, rng.standard_normal(shape), -np.inf)
        yield f"bool {shape}", seen
        yield f"float {shape}", bias
        yield f"float32 {shape}", bias.astype(np.float32)
    for name, mask in layouts(rng.standard_normal((batch, heads, length, keys)).astype(np.float32)):
        yield f"float, {name}", mask
    seen = rng.random((keys, length)) < 0.5
    yield "bool, transposed", seen.T
    yield "bool, backwards", np.ascontiguousarray((seen.T)[:, ::-1])[:, ::-1]
    yield "bool, expanded", np.broadcast_to(seen.T, (batch, heads, length, keys))


def test_mask_forms(machine, rng):
    q, k, v = three(rng, length=18, keys=35)
    for name, mask in masks(rng, 2, 3, 18, 35):
        check(q, k, v, mask, what=name)


def test_mask_forms_in_float64(isa, rng):
    q, k, v = three(rng, np.float64, length=18, keys=35)
    for name, mask in masks(rng, 2, 3, 18, 35):
        check(q, k, v, mask, what=name)


@pytest.mark.parametrize("lead", [(), (3,)])
def test_masks_of_fewer_dimensions(rng, lead):
    q, k, v = (normal(rng, *lead, n, 8) for n in (6, 9, 9))
    for shape in ((9,), (6, 9), (6, 1), (*lead, 6, 9)):
        check(q, k, v, rng.random(shape) < 0.6, what=str(shape))
        check(q, k, v, rng.standard_normal(shape), what=str(shape))


def test_mask_composes_with_everything(machine, rng):
    q, k, v = three(rng)
    for mask in (rng.random((37, 53)) < 0.8, np.where(rng.random((2, 1, 37, 53)) < 0.8, 0.3, -np.inf)):
        check(q, k, v, mask, what=str(mask.dtype), **OPTIONS["all"])


def test_empty_rows_are_zero(machine, rng):
    """Whole blocks of hidden keys, whole hidden rows and heads, with and without a sink."""
    q, k, v = three(rng, length=70, keys=300)
    mask = rng.random((2, 3, 70, 300)) < 0.5
    mask[0, :, 3:20] = False
    mask[:, 1] = False
    mask[1, 2, :, :270] = False
    for form in (mask, np.where(mask, np.float32(0), -np.float32(np.inf))):
        for sinks in (None, np.zeros(3)):
            got = check(q, k, v, form, sinks=sinks)
            assert np.all(got[:, 1] == 0)
            assert np.all(got[0, :, 3:20] == 0)
    for sink in (np.inf, np.nan, np.finfo(np.float32).max):
        got = attend(q, k, v, mask, sinks=np.full(3, sink))
        assert np.all(got[:, 1] == 0)
        assert np.all(got[0, :, 3:20] == 0)


def test_no_texts_at_all(rng):
    q, k, v = (x[:0] for x in three(rng, length=5, keys=7))
    for options in ({}, {"query_offset": 1}, {"key_lengths": 2}, {"key_lengths": [2]}, {"query_offset": []}):
        assert attend(q, k, v, **options).shape == q.shape


def test_what_is_hidden_is_never_read(machine, rng):
    """NaN and infinities in hidden keys and values change no bit, however they are hidden."""
    q, k, v = three(rng, length=40, keys=90)
    j = np.arange(90)
    mask = np.ones((2, 1, 1, 90), bool)
    mask[:, :, :, [0, 13, 64, 89]] = False
    hidden_by = {
        "bool mask": ({"attn_mask": mask}, ~mask[0, 0, 0]),
        "float mask": ({"attn_mask": np.where(mask, 0.0, -np.inf)}, ~mask[0, 0, 0]),
        "key lengths": ({"key_lengths": np.array([33, 33])}, j >= 33),
        "causal": ({"is_causal": True}, j > 39),
        "window": ({"window": (3, 3), "query_offset": 30}, (j < 27) | (j > 72)),
    }
    for name, (options, hidden) in hidden_by.items():
        want = attend(q, k, v, **options)
        for poison in (np.nan, np.inf, -np.inf):
            bad_k, bad_v = k.copy(), v.copy()
            bad_k[:, :, hidden] = bad_v[:, :, hidden] = poison
            got = attend(q, bad_k, bad_v, **options)
            assert np.array_equal(got, want), f"{name}: {poison} leaked"
    # seen by the last query alone, it reaches the last query alone
    v[:, :, 39] = np.nan
    got = attend(q, k, v, is_causal=True)
    assert np.all(np.isfinite(got[:, :, :39]))
    assert np.all(np.isnan(got[:, :, 39]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_few_rows_never_read_what_is_hidden(machine, rng, dtype):
    """A decode step, and the last rows of a long query, over several blocks of keys that masks cut differently."""
    for length, keys, heads in ((1, 256, 1), (1, 700, 4), (3, 300, 1), (65, 300, 1), (129, 300, 1), (66, 520, 2)):
        q = normal(rng, heads, length, 16, dtype=dtype)
        k, v = (normal(rng, 1, keys, 16, dtype=dtype) for _ in range(2))
        mask = rng.random((heads, length, keys)) < 0.6
        mask[..., 130:200] = False
        mask[..., [0, 127, 128, keys - 1]] = False
        hidden = ~mask.any(axis=(0, 1))
        for form in (mask, np.where(mask, dtype(0), -dtype(np.inf))):
            want = check(q, k, v, form, enable_gqa=True)
            for poison in (np.nan, np.inf):
                bad_k, bad_v = k.copy(), v.copy()
                bad_k[:, hidden] = bad_v[:, hidden] = poison
                assert np.array_equal(attend(q, bad_k, bad_v, form, enable_gqa=True), want)


def test_far_offsets(isa, rng):
    """Where nothing but the distance of a query says what it sees, offsets beyond all keys hide all or nothing."""
    q, k, v = three(rng, length=5, keys=9)
    every = attend(q, k, v)
    none = np.zeros_like(every)
    for far in (2**39, 2**40, 2**41, 2**62, -(2**41), -(2**63)):
        after, before = (every, none) if far > 0 else (none, every)
        assert np.array_equal(attend(q, k, v, query_offset=far), every)
        assert np.array_equal(attend(q, k, v, query_offset=far, is_causal=True), after)
        assert np.array_equal(attend(q, k, v, query_offset=far, window=(-1, 2)), after)
        assert np.array_equal(attend(q, k, v, query_offset=far, window=(2, -1)), before)
    near = attend(q, k, v, query_offset=4, window=(3, -1))
    assert np.array_equal(attend(q, k, v, query_offset=2**45, window=(2**45 - 1, -1)), near)


def test_a_visible_nan_is_seen(machine, rng):
    q, k, v = three(rng, length=20, keys=30)
    for which in range(3):
        poisoned = [x.copy() for x in (q, k, v)]
        poisoned[which][0, 1, 7, 3] = np.nan
        want = reference.scaled_dot_product_attention(*map(wide, poisoned))
        got = attend(*poisoned)
        assert np.array_equal(np.isnan(got), np.isnan(want))


# --- hostile values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_large_scores(machine, rng, dtype, size):
    """Scores whose exponentials overflow: one key takes all the weight, or equal ones share it."""
    q, k, v = three(rng, dtype, length=20, keys=70)
    q *= dtype(math.sqrt(size))
    k *= dtype(math.sqrt(size))
    got = attend(q, k, v)
    assert np.all(np.isfinite(got))
    want, _, bound = oracle(q, k, v)
    assert_close(got, want, bound=bound, dtype=dtype)
    equal = attend(np.full_like(q, size), np.full_like(k, size), v)
    mean = np.broadcast_to(wide(v).mean(axis=-2, keepdims=True), equal.shape)
    assert_close(equal, mean, steps=80, magnitude=np.abs(wide(v)).mean(axis=-2, keepdims=True), dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_lowest_number_in_a_mask_is_not_minus_infinity(machine, rng, dtype):
    """Many programs mask with it. Beside a free key it hides; where it is all there is, every score is the same."""
    for length in (1, 20):
        q, k, v = three(rng, dtype, length=length, keys=70)
        lowest = np.finfo(dtype).min
        mask = np.where(rng.random((length, 70)) < 0.5, dtype(0), lowest)
        check(q, k, v, mask)
        mask[0] = lowest
        got = attend(q, k, v, mask)
        mean = wide(v).mean(axis=-2)
        size = np.abs(wide(v)).mean(axis=-2)
        assert_close(got[:, :, 0], mean, steps=80, magnitude=size, dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_highest_number_in_a_mask(machine, rng, dtype):
    """A key with it takes all the weight; several share it."""
    for length in (1, 20):
        q, k, v = three(rng, dtype, length=length, keys=70)
        mask = np.zeros((length, 70), dtype)
        mask[:, [3, 40]] = np.finfo(dtype).max
        want = np.broadcast_to(wide(v)[:, :, [3, 40]].mean(axis=-2, keepdims=True), q.shape)
        assert_close(attend(q, k, v, mask), want, steps=4, magnitude=np.abs(wide(v)).max(), dtype=dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_scores_at_the_ends_of_exp(isa, rng, dtype):
    """Differences around where exp leaves the normal numbers, and where it becomes zero."""
    edge = 87.34 if dtype == np.float32 else 708.4
    q = np.ones((1, 1, 1), dtype)
    for difference in (edge - 1, edge, edge + 1, edge + 10, edge + 50, 2 * edge):
        k = np.array([0.0, -difference], dtype).reshape(1, 2, 1)
        v = np.array([0.0, 1.0], dtype).reshape(1, 2, 1)
        got = attend(q, k, v)[0, 0, 0]
        assert 0 <= got <= np.exp(-difference) * 1.001 + np.finfo(dtype).tiny


def test_denormals_and_huge_values(isa, rng):
    q, k, v = three(rng, length=9, keys=20)
    check(q, k, v * np.float32(1e-39))
    check(q * np.float32(1e-39), k, v)
    huge = v * np.float32(3e37)
    assert np.all(np.isfinite(attend(q, k, huge)))
    check(q, k, huge)


def test_infinite_scores(isa, rng):
    """+inf makes the row NaN, -inf takes no weight, as the formula says."""
    q, k, v = (np.ones((1, n, 1), np.float32) for n in (2, 5, 5))
    k[0, 2] = -np.inf
    v[0, :, 0] = [1, 2, 100, 3, 4]
    assert_close(attend(q, k, v), np.full((1, 2, 1), 2.5), steps=8, magnitude=4.0)
    k[0, 2] = np.inf
    assert np.all(np.isnan(attend(q, k, v)))
    bias = np.zeros((2, 5))
    bias[0, 1] = np.inf
    k[0, 2] = 1.0
    got = attend(q, k, v, bias)
    assert np.isnan(got[0, 0, 0])
    assert np.isfinite(got[0, 1, 0])


def numpy_attention(q, k, v):
    scores = q @ np.swapaxes(k, -1, -2) * q.dtype.type(1 / math.sqrt(q.shape[-1]))
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    return (scores @ v) / scores.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("size", "spread"), [(16, 1.0), (64, 1.0), (128, 3.0), (64, 30.0)])
def test_as_accurate_as_numpy(isa, rng, dtype, size, spread):
    q, k, v = three(rng, dtype, length=100, keys=400, size=size)
    q *= dtype(spread)
    want = reference.scaled_dot_product_attention(*map(wide, (q, k, v)))
    if dtype == np.float64:
        want = long_double_attention(q, k, v)
    as_accurate_as_numpy(attend(q, k, v), numpy_attention(q, k, v), want)


def long_double_attention(q, k, v):
    """One precision up from float64, where the platform has one."""
    wider = [x.astype(np.longdouble) for x in (q, k, v)]
    scores = np.einsum("...id,...jd->...ij", wider[0], wider[1]) / np.sqrt(np.longdouble(q.shape[-1]))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (np.einsum("...ij,...jd->...id", weights, wider[2]) / weights.sum(axis=-1, keepdims=True)).astype(np.float64)


# --- inputs and outputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(machine, rng, dtype):
    q, k, v = three(rng, dtype, length=19, keys=23)
    want = attend(q, k, v)
    for names in zip(layouts(q), layouts(k), layouts(v), strict=True):
        got = attend(*(array for _, array in names))
        assert np.array_equal(got, want), names[0][0]
    for name, strided in layouts(q):
        assert np.array_equal(attend(strided, k, v), want), f"query {name}"
    for name, strided in layouts(k):
        assert np.array_equal(attend(q, strided, v), want), f"key {name}"
    for name, strided in layouts(v):
        assert np.array_equal(attend(q, k, strided), want), f"value {name}"


def test_broadcast_inputs(isa, rng):
    """Stride 0: one row for all queries, one head for all heads."""
    q, k, v = three(rng, length=19, keys=23)
    row, head = np.broadcast_to(q[:, :, :1], q.shape), np.broadcast_to(k[:, :1], k.shape)
    check(row, head, v)
    check(q, k, np.broadcast_to(v[:1, :1, :1, :1], v.shape))


def test_dtypes(isa, rng):
    q, k, v = three(rng, np.float16, length=9, keys=20)
    check(q, k, v)
    integers = [rng.integers(-3, 4, (2, 5, 8)) for _ in range(3)]
    booleans = [rng.random((2, 5, 8)) < 0.5 for _ in range(3)]
    for arrays in (integers, booleans):
        want = reference.scaled_dot_product_attention(*arrays)
        got = attend(*arrays)
        assert_close(got, want, steps=40, magnitude=3.0, dtype=np.float64)
    for kinds in (
        (np.float32, np.float64, np.float32),
        (np.float16, np.float32, np.float16),
        (np.float32, np.int64, bool),
    ):
        mixed = [x.astype(kind) for x, kind in zip((q, k, v), kinds, strict=True)]
        want = reference.scaled_dot_product_attention(*map(wide, mixed))
        assert_close(attend(*mixed), want, steps=200, magnitude=8.0, dtype=np.result_type(*mixed))


def test_lists_and_dlpack(rng):
    q, k, v = three(rng, batch=1, length=4, keys=5, size=3)
    want = attend(q, k, v)
    assert np.array_equal(attend(*map(OnlyDLPack, (q, k, v))), want)
    lists = attend(*(x.tolist() for x in (q, k, v)))
    assert_close(lists, reference.scaled_dot_product_attention(*map(wide, (q, k, v))), steps=40, magnitude=4.0)
    assert lists.dtype == np.float64


def test_torch_tensors(rng):
    torch = pytest.importorskip("torch")
    arrays = three(rng, length=4, keys=5)
    got = attend(*map(torch.from_numpy, arrays))
    assert type(got) is np.ndarray
    assert np.array_equal(got, attend(*arrays))
    mask = rng.random((4, 5)) < 0.5
    assert np.array_equal(attend(*map(torch.from_numpy, arrays), torch.from_numpy(mask)), attend(*arrays, mask))


@pytest.mark.parametrize("dtype", FLOATS)
def test_out(machine, rng, dtype):
    q, k, v = three(rng, dtype, length=19, keys=23)
    want = attend(q, k, v)
    for name, out in layouts(np.full_like(want, np.nan)):
        if name in ("read-only", "bytes swapped"):
            continue
        assert attend(q, k, v, out=out) is out
        assert np.array_equal(out, want), name


def test_inputs_are_left_alone(isa, rng):
    arrays = [read_only(x) for x in three(rng, length=19, keys=23)]
    before = [x.copy() for x in arrays]
    first = attend(*arrays)
    assert all(np.array_equal(x, y) for x, y in zip(arrays, before, strict=True))
    assert np.array_equal(attend(*arrays), first)
    assert not any(np.shares_memory(first, x) for x in arrays)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["causal, aligned at the end", "key lengths, one empty", "sinks", "all"])
def test_weights(machine, rng, dtype, name):
    q, k, v = three(rng, dtype)
    mask = rng.random((37, 53)) < 0.8
    options = OPTIONS[name]
    want, exact, bound = oracle(q, k, v, mask, **options)
    got, weights = attend(q, k, v, mask, return_weights=True, **options)
    assert_close(got, want, bound=bound, dtype=dtype)
    identity = np.broadcast_to(np.eye(k.shape[-2]), (*k.shape[:-1], k.shape[-2]))
    allowed = attention_bound(
        q, k, identity, exact, dtype, scale=options.get("scale"), added=added(q, k, mask, options)
    )
    assert_close(weights, exact, bound=allowed, dtype=dtype)
    assert np.all(weights[exact == 0] == 0)


# --- the other entrances ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_varlen(machine, rng, dtype):
    lengths_q, lengths_k = [0, 1, 5, 64, 65, 0, 17, 130], [3, 1, 5, 64, 20, 0, 100, 130]
    starts_q, starts_k = (np.cumsum([0, *n]) for n in (lengths_q, lengths_k))
    q, k, v = (normal(rng, n, h, 16, dtype=dtype) for n, h in ((starts_q[-1], 4), (starts_k[-1], 2), (starts_k[-1], 2)))
    for options in ({}, {"is_causal": True}, {"window": (9, 4)}, {"scale": 0.3, "softcap": 2.0}):
        got = tfcore.attention_varlen(q, k, v, starts_q, starts_k, enable_gqa=True, **options)
        assert got.shape == q.shape
        for b in range(len(lengths_q)):
            mine, theirs = slice(*starts_q[b : b + 2]), slice(*starts_k[b : b + 2])
            one = [np.ascontiguousarray(np.swapaxes(x, 0, 1)) for x in (q[mine], k[theirs], v[theirs])]
            want, _, bound = oracle(*one, enable_gqa=True, **options)
            assert_close(got[mine], want.swapaxes(0, 1), bound=bound.swapaxes(0, 1), dtype=dtype, what=f"{b} {options}")


def test_varlen_defaults(rng):
    q, k, v = (normal(rng, 9, 2, 8) for _ in range(3))
    for kind in (np.int32, np.int64, np.uint8):
        starts = np.array([0, 4, 9], kind)
        got = tfcore.attention_varlen(q, k, v, starts)
        assert np.array_equal(got, tfcore.attention_varlen(q, k, v, starts, starts))
    assert np.array_equal(got, tfcore.attention_varlen(q, k, v, [0, 4, 9]))
    out = np.empty_like(got)
    assert tfcore.attention_varlen(q, k, v, [0, 4, 9], out=out) is out
    assert np.array_equal(out, got)
    empty = tfcore.attention_varlen(q[:0], k[:0], v[:0], [0])
    assert empty.shape == (0, 2, 8)


@pytest.mark.parametrize("dtype", FLOATS)
def test_self_attention(machine, rng, dtype):
    for lead, n, m in (((), 1, 5), ((3,), 20, 20), ((2, 2), 4, 33), ((), 0, 3), ((), 3, 0)):
        q, k, v = (normal(rng, *lead, length, d, dtype=dtype) for length, d in ((n, 24), (m, 24), (m, 10)))
        want, _, bound = oracle(*(np.expand_dims(x, -3) for x in (q, k, v)))
        got = tfcore.self_attention(q, k, v)
        assert_close(got, want.squeeze(-3), bound=bound.squeeze(-3), dtype=dtype, what=f"{lead} {n} {m}")


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("num_heads", [1, 3, 8])
def test_multi_head_attention(machine, rng, dtype, num_heads):
    for lead in ((), (2,), (2, 1)):
        q, k, v = (normal(rng, *lead, n, c, dtype=dtype) for n, c in ((18, 48), (31, 48), (31, 24)))
        got = tfcore.multi_head_attention(q, k, v, num_heads=num_heads)
        heads = [np.stack(np.split(x, num_heads, axis=-1), axis=-3) for x in (q, k, v)]
        want, _, bound = oracle(*heads)
        for h in range(num_heads):
            columns = slice(h * 24 // num_heads, (h + 1) * 24 // num_heads)
            pick = (..., h, slice(None), slice(None))
            assert_close(got[..., columns], want[pick], bound=bound[pick], dtype=dtype, what=f"{lead} head {h}")


def test_multi_head_attention_has_eight_heads(rng):
    q, k, v = (normal(rng, n, 64) for n in (5, 7, 7))
    assert np.array_equal(tfcore.multi_head_attention(q, k, v), tfcore.multi_head_attention(q, k, v, 8))
    assert not np.array_equal(tfcore.multi_head_attention(q, k, v), tfcore.multi_head_attention(q, k, v, 4))


def test_a_float64_mask_beyond_float32_hides_without_a_warning():
    q = np.ones((1, 2, 4), np.float32)
    mask = np.array([[0.0, np.finfo(np.float64).min]])
    out, weights = tfcore.scaled_dot_product_attention(q, q, q, mask, return_weights=True)
    assert out.dtype == np.float32
    assert weights.tolist() == [[[1.0, 0.0], [1.0, 0.0]]]


def test_one_integer_for_each_of_a_batch_of_several_axes(rng):
    q, k = normal(rng, 2, 3, 4, 5, 8), normal(rng, 2, 3, 4, 7, 8)
    lengths = rng.integers(1, 8, (2, 3))
    got = tfcore.scaled_dot_product_attention(q, k, k, key_lengths=lengths, query_offset=lengths, is_causal=True)
    for i, j in np.ndindex(2, 3):
        n = int(lengths[i, j])
        alone = tfcore.scaled_dot_product_attention(
            q[i, j], k[i, j], k[i, j], key_lengths=n, query_offset=n, is_causal=True
        )
        assert np.array_equal(got[i, j], alone)
    want = reference.scaled_dot_product_attention(q, k, k, key_lengths=lengths, query_offset=lengths, is_causal=True)
    assert np.abs(got - want).max() <= 1e-5


def test_no_columns_for_any_number_of_rows():
    """Nothing to compute takes no time, however many rows there are of it."""
    none = np.empty((1 << 40, 0))
    few = np.empty((5, 0))
    assert tfcore.scaled_dot_product_attention(none, few, few).shape == none.shape
    assert tfcore.multi_head_attention(none, few, few, 4).shape == none.shape
    packed = none[:, None]
    assert tfcore.attention_varlen(packed, packed, packed, [0, 1 << 40]).shape == packed.shape
    for norm in (tfcore.layer_norm, tfcore.rms_norm, tfcore.softmax):
        assert norm(none).shape == none.shape
