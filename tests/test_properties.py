"""What holds for every input: hypothesis draws shapes, layouts, restrictions and values, and shrinks what fails."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tfcore
from arrays import layouts
from closeness import assert_close, assert_same_bits, dot_bound, unit
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from isas import ISAS
from test_attention import check, oracle
from test_linear import check_linear
from test_norm import check_layer_norm, check_rms_norm, check_softmax
from tfcore import reference

attend = tfcore.scaled_dot_product_attention

settings.register_profile("tfcore", deadline=None, derandomize=True, database=None, max_examples=100)
settings.load_profile("tfcore")

DTYPES = st.sampled_from([np.float32, np.float64])
SEEDS = st.integers(0, 2**32 - 1)
MACHINES = st.tuples(st.sampled_from(ISAS), st.sampled_from([1, 2, 5]))
# Lengths and sizes: mostly small, sometimes around a tile or a block
LENGTHS = st.integers(0, 20) | st.sampled_from([31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
SIZES = st.integers(1, 20) | st.sampled_from([31, 32, 33, 64, 65])


def on(machine, call):
    isa, threads = machine
    with tfcore.use_isa(isa), tfcore.num_threads(threads):
        return call()


def array(draw, rng, *shape, dtype, scale=1.0):
    """Numbers of `shape` in one of the layouts."""
    x = (scale * rng.standard_normal(shape)).astype(dtype)
    ways = dict(layouts(x))
    return ways[draw(st.sampled_from(sorted(ways)))]


# --- attention -------------------------------------------------------------------------------------------------------


@st.composite
def attention_calls(draw):
    """query, key, value, mask and any combination of options."""
    rng, dtype = np.random.default_rng(draw(SEEDS)), draw(DTYPES)
    batch, groups, ratio = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    length, keys, size, value_size = draw(LENGTHS), draw(LENGTHS), draw(SIZES), draw(SIZES)
    heads, scale = groups * ratio, draw(st.sampled_from([0.0, 1.0, 5.0]))
    q = array(draw, rng, batch, heads, length, size, dtype=dtype, scale=scale)
    k = array(draw, rng, batch, groups, keys, size, dtype=dtype)
    v = array(draw, rng, batch, groups, keys, value_size, dtype=dtype)
    options = {"enable_gqa": True}
    offsets = st.integers(-keys - 2, keys + 2)
    choices = {
        "is_causal": st.just(True),
        "query_offset": offsets | st.lists(offsets, min_size=batch, max_size=batch).map(np.array),
        "key_lengths": st.lists(st.integers(0, keys), min_size=batch, max_size=batch).map(np.array),
        "window": st.tuples(st.integers(-1, keys + 2), st.integers(-1, keys + 2)),
        "scale": st.floats(-2.0, 2.0),
        "softcap": st.floats(0.5, 20.0),
        "alibi_slopes": st.just(rng.random(heads)),
        "sinks": st.just(2 * rng.standard_normal(heads)),
    }
    for name, choice in choices.items():
        if draw(st.booleans()):
            options[name] = draw(choice)
    shape = [n if draw(st.booleans()) else 1 for n in (batch, heads, length, keys)][draw(st.integers(0, 4)) :]
    kind = draw(st.sampled_from([None, "bool", "float"]))
    seen = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    mask = {None: None, "bool": seen, "float": np.where(seen, rng.standard_normal(shape), -np.inf)}[kind]
    return q, k, v, None if mask is None else np.asarray(mask), options


@settings(max_examples=400)
@given(attention_calls(), MACHINES)
def test_attention_is_the_reference(call, machine):
    q, k, v, mask, options = call
    on(machine, lambda: check(q, k, v, mask, **options))


@given(attention_calls())
def test_attention_is_an_average(call):
    """Each result lies between the least and the greatest value seen; a sink only pulls it towards zero."""
    q, k, v, mask, options = call
    assume(k.shape[-2] > 0)
    got, weights = attend(q, k, v, mask, return_weights=True, **options)
    slack = 64 * unit(q.dtype)
    sums = weights.sum(axis=-1)
    assert np.all(weights >= 0)
    assert np.all(sums <= 1 + slack)
    if "sinks" not in options:
        assert np.all((sums == 0) | (np.abs(sums - 1) <= slack))
    repeat = q.shape[1] // k.shape[1]
    low, high = (np.repeat(f(v, axis=-2, keepdims=True), repeat, axis=1) for f in (np.min, np.max))
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    reach = slack * np.maximum(-low, high)
    assert np.all((got >= low - reach) & (got <= high + reach))


@given(attention_calls(), SEEDS)
def test_hidden_keys_do_not_matter(call, seed):
    """Whatever stands in a key that no query of its head sees, and in its value, changes no bit."""
    q, k, v, mask, options = call
    options = {**options, "enable_gqa": True}
    want, weights, _ = oracle(q, k, v, mask, **options)
    probe = reference.scaled_dot_product_attention(q, k, v, mask, **{**options, "return_weights": True, "scale": 0.0,
                                                                       "softcap": 0.0})[1]  # fmt: skip
    seen = probe.reshape(*k.shape[:2], q.shape[1] // k.shape[1] * q.shape[2], k.shape[2]).any(axis=-2)
    before = attend(q, k, v, mask, **options)
    poison = np.random.default_rng(seed).choice([np.nan, np.inf, -np.inf, 1e30], size=seen.shape)
    bad_k = np.where(seen[..., None], k, poison[..., None]).astype(k.dtype)
    bad_v = np.where(seen[..., None], v, poison[..., None]).astype(v.dtype)
    assert np.array_equal(attend(q, bad_k, bad_v, mask, **options), before)
    assert want.shape == before.shape
    assert weights.shape == probe.shape


@given(attention_calls(), st.floats(-50, 50))
def test_a_constant_added_to_the_scores_changes_little(call, constant):
    q, k, v, mask, options = call
    options = {name: o for name, o in options.items() if name != "sinks"}
    assume(mask is None or mask.dtype != bool)
    shifted = np.full((1,), constant) if mask is None else mask + constant
    want, _, bound = oracle(q, k, v, mask, **options)
    room = 8 * unit(q.dtype) * abs(constant) * np.abs(v).max(initial=0.0)
    assert_close(attend(q, k, v, shifted, **options), want, bound=bound + room)


@given(SEEDS, DTYPES, st.integers(2, 200), SIZES)
def test_the_order_of_the_keys_changes_little(seed, dtype, keys, size):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((1, n, size)).astype(dtype) for n in (5, keys, keys))
    order = rng.permutation(keys)
    want, _, bound = oracle(q, k, v)
    assert_close(attend(q, k[:, order], v[:, order]), want, bound=bound)


# --- products --------------------------------------------------------------------------------------------------------


@given(st.data(), DTYPES, SEEDS, MACHINES, LENGTHS, LENGTHS, LENGTHS)
def test_linear_is_the_reference(data, dtype, seed, machine, rows, columns, depth):
    rng = np.random.default_rng(seed)
    x, weight = (array(data.draw, rng, *shape, dtype=dtype) for shape in ((rows, depth), (columns, depth)))
    bias = array(data.draw, rng, columns, dtype=dtype) if data.draw(st.booleans()) else None
    residual = array(data.draw, rng, rows, columns, dtype=dtype) if data.draw(st.booleans()) else None
    activation = data.draw(st.sampled_from([None, "relu", "gelu", "gelu_tanh", "silu", "tanh"]))
    got = on(machine, lambda: check_linear(x, weight, bias, residual, activation))
    packed = on(machine, lambda: tfcore.PackedLinear(weight, bias)(x, activation=activation, residual=residual))
    assert_same_bits(packed, got)


@given(st.data(), DTYPES, SEEDS, MACHINES)
def test_matmul_broadcasts_as_numpy(data, dtype, seed, machine):
    shapes = data.draw(hnp.mutually_broadcastable_shapes(signature="(m?,k),(k,n?)->(m?,n?)", max_side=9, max_dims=3))
    rng = np.random.default_rng(seed)
    a, b = (array(data.draw, rng, *shape, dtype=dtype) for shape in shapes.input_shapes)
    want = np.matmul(a.astype(np.float64), b.astype(np.float64))
    got = on(machine, lambda: tfcore.matmul(a, b))
    bound = 12 * unit(dtype) * np.matmul(np.abs(a.astype(np.float64)), np.abs(b.astype(np.float64)))
    assert_close(got, want, bound=bound, dtype=dtype)


@given(SEEDS, DTYPES, st.integers(0, 60))
def test_matmul_is_linear(seed, dtype, depth):
    rng = np.random.default_rng(seed)
    a, b, c = (rng.standard_normal(s).astype(dtype) for s in ((7, depth), (depth, 9), (depth, 9)))
    together = tfcore.matmul(a, b) + tfcore.matmul(a, c)
    bound = dot_bound(a, np.abs(b) + np.abs(c), dtype)
    assert_close(together, a.astype(np.float64) @ (b.astype(np.float64) + c), bound=2 * bound)


# --- rows ------------------------------------------------------------------------------------------------------------

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=40)


@given(st.data(), SHAPES, DTYPES, SEEDS, MACHINES, st.sampled_from([1e-3, 1.0, 30.0]))
def test_rows_are_the_reference(data, shape, dtype, seed, machine, scale):
    rng = np.random.default_rng(seed)
    x = array(data.draw, rng, *shape, dtype=dtype, scale=scale)
    weight, bias = (array(data.draw, rng, shape[-1], dtype=dtype) for _ in range(2))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    on(machine, lambda: check_softmax(x, axis))
    on(machine, lambda: check_layer_norm(x, weight, bias))
    on(machine, lambda: check_rms_norm(x, weight))


FINITE = hnp.arrays(np.float32, st.integers(1, 70), elements=st.floats(-1e4, 1e4, width=32))


@given(FINITE)
def test_softmax_is_a_distribution_in_order(x):
    got = tfcore.softmax(x)
    assert np.all(got >= 0)
    assert abs(got.sum(dtype=np.float64) - 1) <= 1e-6
    order = np.argsort(x, kind="stable")
    assert np.all(np.diff(got[order]) >= 0), "a larger number got a smaller share"


@given(FINITE, st.integers(-3, 3))
def test_layer_norm_ignores_powers_of_two(x, power):
    """Scaling by a power of two scales every intermediate result exactly."""
    assume(np.all((x == 0) | (np.abs(x) > 1e-10)))
    assert_same_bits(tfcore.layer_norm(x, eps=0.25), tfcore.layer_norm(x * 2.0**power, eps=0.25 * 4.0**power))
    assert_same_bits(tfcore.rms_norm(x, eps=0.25), tfcore.rms_norm(x * 2.0**power, eps=0.25 * 4.0**power))


@given(hnp.arrays(np.float64, st.integers(0, 70), elements=st.floats(-1e300, 1e300)))
def test_activations_stay_within_their_line(x):
    """max(x, 0) and 0 enclose what they smooth: x·p with p in 0…1, and nowhere a NaN."""
    for call in (tfcore.gelu, lambda x: tfcore.gelu(x, approximate="tanh"), tfcore.silu):
        got = call(x)
        assert np.all(np.isfinite(got))
        assert np.all(np.abs(got) <= np.abs(x) * (1 + 1e-15))
        assert np.all(got >= -0.2785), "silu's lowest point is -0.27846"


# --- positions -------------------------------------------------------------------------------------------------------


@given(st.data(), DTYPES, SEEDS, st.integers(0, 40), st.integers(1, 24), st.booleans())
def test_rotary_turns_back(data, dtype, seed, length, half, interleaved):
    """Turned by a position and then by its negative, x is itself; and every turn keeps its length."""
    rng = np.random.default_rng(seed)
    x = array(data.draw, rng, 2, length, 2 * half, dtype=dtype)
    positions = rng.integers(-1000, 1000, length)
    there = tfcore.rotary_embedding(x, positions, interleaved=interleaved)
    back = tfcore.rotary_embedding(there, -positions, interleaved=interleaved)
    bound = 16 * unit(dtype) * np.abs(x).max(initial=0.0)
    assert_close(back, x.astype(np.float64), bound=bound)
    lengths = np.square(x, dtype=np.float64).sum(axis=-1)
    assert_close(np.square(there, dtype=np.float64).sum(axis=-1), lengths, bound=(8 + half) * unit(dtype) * lengths)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(-100, 10**6), DTYPES)
def test_encodings_are_sines_and_cosines(rows, columns, offset, dtype):
    got = tfcore.positional_encoding(rows, columns, offset=offset, dtype=dtype)
    assert got.shape == (rows, columns)
    pairs = np.square(got[:, 0 : columns // 2 * 2 : 2], dtype=np.float64) + np.square(got[:, 1::2], dtype=np.float64)
    assert_close(pairs, np.ones(pairs.shape), bound=8 * unit(dtype))


# --- anything at all -------------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(-2, 2), max_size=4),
    st.tuples(st.integers(-2, 9), st.integers(-2, 9)),
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.float16, np.int8, bool, complex, "U1", "M8[s]"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ),
)
CALLS = {
    "scaled_dot_product_attention": (
        ["query", "key", "value"],
        ["attn_mask", "is_causal", "query_offset", "key_lengths", "window", "scale", "softcap", "alibi_slopes", "sinks",
         "enable_gqa", "return_weights", "out"],
    ),
    "attention_varlen": (["query", "key", "value", "cu_seqlens_q"], ["cu_seqlens_k", "window", "out"]),
    "self_attention": (["query", "key", "value"], []),
    "multi_head_attention": (["query", "key", "value"], ["num_heads"]),
    "positional_encoding": (["seq_len", "d_model"], ["base", "offset", "layout", "frequencies", "dtype", "out"]),
    "rotary_embedding": (["x"], ["positions", "base", "rotary_dim", "interleaved", "scaling", "out"]),
    "alibi_slopes": (["num_heads"], []),
    "matmul": (["a", "b"], ["out"]),
    "linear": (["x", "weight"], ["bias", "activation", "residual", "out"]),
    "PackedLinear": (["weight"], ["bias"]),
    "softmax": (["x"], ["axis", "out"]),
    "layer_norm": (["x"], ["weight", "bias", "eps", "out"]),
    "rms_norm": (["x"], ["weight", "eps", "out"]),
    "gelu": (["x"], ["approximate", "out"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")  # what NumPy says of odd dtypes on the way is its own affair
@given(data=st.data())
def test_junk_is_answered_or_refused(name, data):
    """Whatever comes in, a result or a TypeError or ValueError comes out."""
    required, optional = CALLS[name]
    names = required + [n for n in optional if data.draw(st.booleans())]
    arguments = {n: data.draw(JUNK) for n in names}
    with contextlib.suppress(TypeError, ValueError):
        getattr(tfcore, name)(**arguments)
