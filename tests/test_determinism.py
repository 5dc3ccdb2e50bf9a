"""Same row, same bits: a result depends on its own inputs, not on what else is computed beside it, how, or where."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, normal
from closeness import assert_close, assert_same_bits, attention_bound
from isas import FMA_ISAS
from tfcore import _core

attend = tfcore.scaled_dot_product_attention

ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24, 31, 48, 95, 96, 97)


@pytest.fixture(params=FLOATS, ids=["float32", "float64"])
def dtype(request):
    return request.param


# --- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 17, 384, 385, 1000])
def test_products_over_the_number_of_rows(isa, rng, dtype, depth):
    """In one call or many, alone or among others: linear, packed, and matmul of both orders of b."""
    x, weight, bias = (normal(rng, *shape, dtype=dtype) for shape in ((200, depth), (83, depth), (83,)))
    packed = tfcore.PackedLinear(weight, bias)
    b = np.ascontiguousarray(weight.T)
    calls = {
        "linear": lambda x: tfcore.linear(x, weight, bias, activation="gelu"),
        "packed": lambda x: packed(x, activation="gelu"),
        "matmul": lambda x: tfcore.matmul(x, b),
        "matmul, transposed": lambda x: tfcore.matmul(x, weight.T),
    }
    results = {name: call(x) for name, call in calls.items()}
    assert_same_bits(results["packed"], results["linear"])
    assert_same_bits(results["matmul"], results["matmul, transposed"])
    for name, call in calls.items():
        for rows in ROWS:
            assert_same_bits(call(x[:rows]), results[name][:rows], f"{name}, the first {rows}")
        for rows in (1, 5, 13):
            assert_same_bits(call(x[-rows:]), results[name][-rows:], f"{name}, the last {rows}")
        assert_same_bits(call(x[50]), results[name][50], f"{name}, a vector")
        assert_same_bits(call(x.reshape(4, 50, depth)), results[name].reshape(4, 50, 83), f"{name}, a batch")


def test_products_over_the_number_of_columns(isa, rng, dtype):
    x, weight = normal(rng, 20, 400, dtype=dtype), normal(rng, 150, 400, dtype=dtype)
    want = tfcore.linear(x, weight)
    for columns in (1, 2, 7, 8, 9, 15, 16, 17, 33, 64, 130, 149):
        assert_same_bits(tfcore.linear(x, weight[:columns]), want[:, :columns], f"the first {columns}")
        assert_same_bits(tfcore.PackedLinear(weight[-columns:])(x), want[:, -columns:], f"the last {columns}")
        assert_same_bits(tfcore.matmul(x, weight[:columns].T), want[:, :columns], f"matmul, the first {columns}")


def test_weights_that_no_cache_holds(isa, rng, dtype):
    """Few rows ask for weights in another order where those come from memory, which is taken to be so beyond 32 MB. It
    doesn't show, in the last, ragged panel either."""
    depth = 700  # blocks of 256, 256 and 188
    columns = (32 << 20) // (depth * np.dtype(dtype).itemsize) + 9
    x, weight = normal(rng, 25, depth, dtype=dtype), normal(rng, columns, depth, dtype=dtype)
    far, near = tfcore.PackedLinear(weight), tfcore.PackedLinear(weight[-40:])
    want = far(x)
    assert_same_bits(want[:, -40:], near(x))
    for rows in range(1, 25):
        assert_same_bits(far(x[:rows]), want[:rows], f"the first {rows}")


def test_products_over_the_batch(isa, rng, dtype):
    a, b = normal(rng, 3, 5, 9, 33, dtype=dtype), normal(rng, 3, 5, 33, 20, dtype=dtype)
    want = tfcore.matmul(a, b)
    for i, j in itertools.product(range(3), range(5)):
        assert_same_bits(tfcore.matmul(a[i, j], b[i, j]), want[i, j])
    assert_same_bits(tfcore.matmul(a, b[1, 2])[1, 2], want[1, 2])
    assert_same_bits(tfcore.matmul(a[1, 2], b)[1, 2], want[1, 2])


def test_feed_forward_over_the_number_of_rows(isa, rng, dtype):
    x, w1, b1, w2, b2 = (normal(rng, *s, dtype=dtype) for s in ((60, 40), (160, 40), (160,), (40, 160), (40,)))
    want = tfcore.feed_forward(x, w1, b1, w2, b2)
    for rows in (1, 2, 7, 13, 31, 59):
        assert_same_bits(tfcore.feed_forward(x[:rows], w1, b1, w2, b2), want[:rows])


# --- rows and elements -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [5, 16, 33, 100, 768])
def test_norms_over_the_number_of_rows(isa, rng, dtype, width):
    x, weight, bias = (normal(rng, *shape, dtype=dtype) for shape in ((300, width), (width,), (width,)))
    order = rng.permutation(300)
    for call in (
        tfcore.softmax,
        tfcore.log_softmax,
        lambda x: tfcore.layer_norm(x, weight, bias),
        lambda x: tfcore.rms_norm(x, weight),
    ):
        want = call(x)
        for rows in (1, 2, 3, 50):
            assert_same_bits(call(x[:rows]), want[:rows])
        assert_same_bits(call(x[7]), want[7])
        assert_same_bits(call(x[order]), want[order])
        assert_same_bits(call(x.reshape(3, 100, width)), want.reshape(3, 100, width))


def test_elements_do_not_depend_on_their_place(isa, rng, dtype):
    x = normal(rng, 20011, dtype=dtype, scale=4.0)
    order = rng.permutation(x.size)
    for call in (tfcore.gelu, lambda x: tfcore.gelu(x, approximate="tanh"), tfcore.silu, tfcore.relu):
        want = call(x)
        assert_same_bits(call(x[order]), want[order])
        for start, stop in ((0, 1), (3, 4), (1, 18), (5, 70), (20000, 20011)):
            assert_same_bits(call(x[start:stop]), want[start:stop])


@pytest.mark.parametrize("width", [5, 33, 100, 1027])
def test_rows_do_not_depend_on_where_they_lie(isa, rng, dtype, width):
    """Loops go through them in one order or the other, by where the result lies within a page."""
    page, size = 4096, 3 * width
    weight = normal(rng, width, dtype=dtype)
    memory = np.zeros(4 * (page + size * 8) // np.dtype(dtype).itemsize, dtype)
    x = memory[:size].reshape(3, width)
    x[:] = normal(rng, 3, width, dtype=dtype)
    calls = (
        tfcore.gelu,
        tfcore.softmax,
        tfcore.log_softmax,
        lambda x, out=None: tfcore.layer_norm(x, weight, weight, out=out),
        lambda x, out=None: tfcore.rms_norm(x, weight, out=out),
    )
    for call, further in itertools.product(calls, (0, 16, 64, 2048, 2064, 4080)):
        begin = (-(-x.nbytes // page) * page + further) // x.itemsize
        out = memory[begin : begin + size].reshape(3, width)
        memory[x.size :] = 7
        assert_same_bits(call(x, out=out), call(x.copy()))
        assert np.all(memory[x.size : begin] == 7)
        assert np.all(memory[begin + size :] == 7)


def test_positions_do_not_depend_on_where_they_start(isa, dtype):
    for layout, frequencies in itertools.product(("interleaved", "split"), ("geometric", "linear")):
        options = {"layout": layout, "frequencies": frequencies, "dtype": dtype}
        want = tfcore.positional_encoding(300, 50, **options)
        for start, rows in ((0, 1), (7, 1), (3, 100), (299, 1)):
            assert_same_bits(tfcore.positional_encoding(rows, 50, offset=start, **options), want[start : start + rows])


def test_an_angle_beyond_the_vector_reduction_leaves_its_neighbours_alone(isa, dtype):
    x = np.linspace(0, 1e5, 10001).astype(dtype)
    for function in ("sin", "cos"):
        for far in (3e7, np.inf, np.nan):
            mixed = np.stack([x, np.full_like(x, far)], axis=1)
            got = _core.vector_math(function, mixed.ravel()).reshape(mixed.shape)
            assert_same_bits(got[:, 0], _core.vector_math(function, x), f"{function}, {far}")


def test_rotary_does_not_depend_on_its_neighbours(isa, rng, dtype):
    x = normal(rng, 2, 3, 70, 32, dtype=dtype)
    for interleaved in (False, True):
        want = tfcore.rotary_embedding(x, interleaved=interleaved)
        for start, rows in ((0, 1), (69, 1), (13, 20)):
            positions = np.arange(start, start + rows)
            got = tfcore.rotary_embedding(x[:, :, positions], positions, interleaved=interleaved)
            assert_same_bits(got, want[:, :, positions])
        assert_same_bits(tfcore.rotary_embedding(x[1, 2], interleaved=interleaved), want[1, 2])


# --- attention -------------------------------------------------------------------------------------------------------


def three(rng, dtype, batch, heads, groups, length, keys, size=24):
    shapes = (heads, length), (groups, keys), (groups, keys)
    return [normal(rng, batch, h, n, size, dtype=dtype) for h, n in shapes]


VARIANTS = {
    "plain": {},
    "softcap": {"softcap": 2.0},
    "scale": {"scale": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_over_the_number_of_queries(isa, rng, dtype, variant):
    """From one query, a decode step, to many, a prompt: another loop computes them, with the same bits."""
    options = VARIANTS[variant]
    q, k, v = three(rng, dtype, 1, 2, 2, 97, 301)
    want = attend(q, k, v, **options)
    for rows in ROWS:
        assert_same_bits(attend(q[:, :, :rows], k, v, **options), want[:, :, :rows], f"the first {rows}")
    for row in (0, 5, 64, 96):
        assert_same_bits(attend(q[:, :, row : row + 1], k, v, **options), want[:, :, row : row + 1], f"row {row}")
    order = rng.permutation(97)
    assert_same_bits(attend(q[:, :, order], k, v, **options), want[:, :, order])


def test_attention_over_batch_and_heads(isa, rng, dtype):
    q, k, v = three(rng, dtype, 3, 4, 4, 40, 150)
    want = attend(q, k, v)
    for b, h in itertools.product(range(3), range(4)):
        assert_same_bits(attend(q[b, h], k[b, h], v[b, h]), want[b, h])
    for b in range(3):
        assert_same_bits(attend(q[b], k[b], v[b]), want[b])
    order = [2, 0, 1]
    assert_same_bits(attend(q[order], k[order], v[order]), want[order])
    assert_same_bits(attend(np.concatenate([q, q]), np.concatenate([k, k]), np.concatenate([v, v]))[3:], want)


@pytest.mark.parametrize("length", [1, 3, 20])
def test_attention_beside_rows_of_huge_scores(isa, rng, dtype, length):
    """Scores too large for an integer's worth of precision are held against their maximum in another way."""
    q, k, v = (normal(rng, n, 16, dtype=dtype) for n in (length + 1, 300, 300))
    want = attend(q, k, v)[1:]
    for size in (1e7, 1e17, np.inf):
        q[0] = size
        assert_same_bits(attend(q, k, v)[1:], want, f"beside scores of {size:g}")


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_grouped_heads_are_repeated_heads(isa, rng, dtype, length):
    q, k, v = three(rng, dtype, 2, 6, 2, length, 150)
    want = attend(q, np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1), is_causal=True, query_offset=110)
    assert_same_bits(attend(q, k, v, enable_gqa=True, is_causal=True, query_offset=110), want)


@pytest.mark.parametrize("length", [1, 3, 5, 70])
def test_padding_is_invisible(isa, rng, dtype, length):
    """Keys past key_lengths, whatever they hold, and queries past the last."""
    q, k, v = three(rng, dtype, 2, 2, 2, length, 300)
    lengths = np.array([133, 270])
    k[0, :, 133:], v[0, :, 133:] = np.nan, np.inf
    padded = attend(q, k, v, key_lengths=lengths)
    more_queries = attend(np.concatenate([q, q], axis=2), k, v, key_lengths=lengths)
    assert_same_bits(more_queries[:, :, :length], padded)
    for b, keys in enumerate(lengths):
        assert_same_bits(padded[b], attend(q[b], k[b, :, :keys], v[b, :, :keys]), f"batch {b}")


@pytest.mark.parametrize("length", [1, 5, 70])
def test_one_restriction_said_in_many_ways(isa, rng, dtype, length):
    q, k, v = three(rng, dtype, 2, 2, 2, length, 300)
    offset = 200
    i, j = np.arange(length)[:, None] + offset, np.arange(300)
    want = attend(q, k, v, is_causal=True, query_offset=offset)
    assert_same_bits(attend(q, k, v, window=(-1, 0), query_offset=offset), want, "window")
    assert_same_bits(attend(q, k, v, j <= i), want, "bool mask")
    assert_same_bits(attend(q, k, v, np.where(j <= i, 0.0, -np.inf)), want, "float mask")
    assert_same_bits(attend(q, k, v, is_causal=True, query_offset=[offset] * 2), want, "offsets")
    both = attend(q, k, v, is_causal=True, query_offset=offset, window=(150, -1))
    assert_same_bits(attend(q, k, v, (j <= i) & (j >= i - 150)), both, "both sides")


@pytest.mark.parametrize("groups", [1, 4])
def test_step_by_step_with_a_cache_is_one_forward(isa, rng, dtype, groups):
    """A causal pass at once; a prompt and then single tokens; and in chunks: the same bits."""
    total = 150
    q, k, v = three(rng, dtype, 1, 4, groups, total, total)
    for options in ({}, {"window": (40, 0)}, {"alibi_slopes": tfcore.alibi_slopes(4)}, {"sinks": np.ones(4)}):
        options = {"is_causal": True, "enable_gqa": True, **options}
        want = attend(q, k, v, **options)
        for cuts in (
            [0, *range(1, total + 1)],
            [0, 67, *range(68, total + 1)],
            [0, 3, 9, 17, 64, 65, 71, 128, 149, 150],
        ):
            for start, stop in itertools.pairwise(cuts):
                got = attend(q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], query_offset=start, **options)
                assert_same_bits(got, want[:, :, start:stop], f"{start}:{stop} {sorted(options)}")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sinks": np.array([0.5, -np.inf])},
        {"window": (2500, 0)},
        {"key_lengths": [2048]},
        {"key_lengths": [2049], "softcap": 3.0},
        {"attn_mask": np.arange(5000) >= 4100},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_long_rows_however_they_are_shared(isa, rng, dtype, options):
    """A few rows over many keys: threads take spans of the keys. All rows at once: each thread takes whole rows."""
    q, k, v = three(rng, dtype, 1, 2, 1, 70, 5000, size=24)
    options = {"enable_gqa": True, **options}
    with tfcore.num_threads(1):
        want = attend(q, k, v, query_offset=4930, **options)
    wide = [x.astype(np.float64) for x in (q, k, v)]
    exact, weights = tfcore.reference.scaled_dot_product_attention(
        *wide, query_offset=4930, return_weights=True, **options
    )
    assert_close(want, exact, bound=attention_bound(*wide, weights, dtype), dtype=dtype)
    for threads, rows in itertools.product((1, 2, 16), (slice(0, 1), slice(66, 70), slice(5, 37))):
        with tfcore.num_threads(threads):
            got = attend(q[:, :, rows], k, v, query_offset=4930 + rows.start, **options)
        assert_same_bits(got, want[:, :, rows], f"{rows}, {threads} threads")


@pytest.mark.parametrize("window", [None, (600, 0), (0, 0)], ids=str)
def test_long_rows_of_texts_of_several_lengths(isa, rng, dtype, window):
    """Each text's spans begin where its own rows begin to see."""
    lengths = [7, 1500, 5000]
    q, k, v = three(rng, dtype, 3, 2, 1, 1, 5000, size=24)
    for text, length in enumerate(lengths):
        k[text, :, length:] = v[text, :, length:] = np.nan
    options = {"enable_gqa": True, "is_causal": True, "window": window}
    for threads in (1, 2, 16):
        with tfcore.num_threads(threads):
            got = attend(q, k, v, query_offset=[length - 1 for length in lengths], key_lengths=lengths, **options)
        for text, length in enumerate(lengths):
            own = (x[text : text + 1, :, :length] for x in (k, v))
            with tfcore.num_threads(1):
                want = attend(q[text : text + 1], *own, query_offset=length - 1, **options)
            assert_same_bits(got[text : text + 1], want, f"{length} keys, {threads} threads")


def test_weights_beside_a_row_that_is_no_number(isa, rng, dtype):
    """Its own hidden keys weigh nothing, whatever the rows beside it see."""
    q, k, v = three(rng, dtype, 1, 1, 1, 40, 40, size=8)
    q[0, 0, 3, 0] = np.nan
    mask = rng.random((40, 40)) < 0.5
    for options in ({}, {"attn_mask": mask}):
        _, weights = attend(q, k, v, is_causal=True, return_weights=True, **options)
        row = {name: value[3:4] for name, value in options.items()}
        _, alone = attend(q[:, :, 3:4], k, v, is_causal=True, query_offset=3, return_weights=True, **row)
        assert_same_bits(np.isnan(weights[:, :, 3:4]), np.isnan(alone))
        assert not weights[0, 0, 3, 4:].any()


@pytest.mark.parametrize("shared", [1, 2, 3, 4, 7])
def test_keys_that_no_cache_holds(isa, rng, dtype, shared):
    """Few rows read keys and values in another order where those come from memory, which is taken to be so from 16 MB
    on. It doesn't show."""
    size = 32
    near = (16 << 20) // (2 * size * np.dtype(dtype).itemsize) - 301
    q, k, v = three(rng, dtype, 1, shared, 1, 1, near + 600, size)
    want = attend(q, k[:, :, :near], v[:, :, :near], enable_gqa=True)
    assert_same_bits(attend(q, k, v, enable_gqa=True, key_lengths=[near]), want)
    many = np.repeat(q, 8, axis=2)
    assert_same_bits(attend(many, k, v, enable_gqa=True, key_lengths=[near])[:, :, :1], want)


def test_a_longer_cache_changes_nothing(isa, rng, dtype):
    """A cache allocated ahead holds rubbish past its length."""
    q, k, v = three(rng, dtype, 1, 2, 2, 1, 500)
    want = attend(q, k[:, :, :201], v[:, :, :201])
    k[:, :, 201:], v[:, :, 201:] = np.nan, np.nan
    assert_same_bits(attend(q, k, v, key_lengths=[201]), want)
    assert_same_bits(attend(q, k, v, is_causal=True, query_offset=200), want)


def test_packed_sequences_are_sequences(isa, rng, dtype):
    lengths = [1, 130, 4, 0, 5, 64]
    starts = np.cumsum([0, *lengths])
    q, k, v = (normal(rng, starts[-1], h, 24, dtype=dtype) for h in (4, 2, 2))
    for options in ({}, {"is_causal": True}, {"window": (10, 3), "softcap": 3.0}):
        packed = tfcore.attention_varlen(q, k, v, starts, enable_gqa=True, **options)
        for start, stop in itertools.pairwise(starts):
            heads = (np.swapaxes(x[start:stop], 0, 1) for x in (q, k, v))
            alone = attend(*heads, enable_gqa=True, **options)
            assert_same_bits(packed[start:stop], np.swapaxes(alone, 0, 1), f"{start}:{stop} {options}")


def test_the_short_forms_are_the_long_form(isa, rng, dtype):
    q, k, v = (normal(rng, n, 48, dtype=dtype) for n in (33, 70, 70))
    assert_same_bits(tfcore.self_attention(q, k, v), attend(q, k, v))
    heads = [np.swapaxes(x.reshape(len(x), 4, 12), 0, 1) for x in (q, k, v)]
    want = np.swapaxes(attend(*heads), 0, 1).reshape(33, 48)
    assert_same_bits(tfcore.multi_head_attention(q, k, v, num_heads=4), want)


def test_asking_for_the_weights_changes_nothing(isa, rng, dtype):
    q, k, v = three(rng, dtype, 1, 2, 2, 40, 200)
    assert_same_bits(attend(q, k, v, return_weights=True)[0], attend(q, k, v))


# --- threads, instruction sets, repetition ---------------------------------------------------------------------------


def everything(dtype):
    """One result of every operator, on inputs large enough for several threads."""
    rng = np.random.default_rng(42)
    q, k, v = three(rng, dtype, 2, 4, 2, 150, 333, size=48)
    decode = three(rng, dtype, 2, 4, 2, 1, 333, size=48)
    x, weight, bias = (normal(rng, *shape, dtype=dtype) for shape in ((260, 300), (270, 300), (270,)))
    mask = rng.random((150, 333)) < 0.7
    gqa = {"enable_gqa": True}
    slopes = tfcore.alibi_slopes(4)
    yield "attention", attend(q, k, v, **gqa)
    yield "attention, causal", attend(q, k, v, is_causal=True, query_offset=100, window=(90, 0), **gqa)
    yield "attention, mask", attend(q, k, v, mask, **gqa)
    yield "attention, more", attend(q, k, v, softcap=2.0, alibi_slopes=slopes, sinks=slopes, **gqa)
    yield "attention, weights", np.concatenate(attend(q, k, v, return_weights=True, **gqa), axis=-1)
    yield "attention, decode", attend(*decode, **gqa)
    yield "attention, lengths", attend(q, k, v, key_lengths=[5, 300], **gqa)
    packed = [np.ascontiguousarray(np.swapaxes(y[0], 0, 1)) for y in (q, k, v)]
    yield "varlen", tfcore.attention_varlen(*packed, [0, 30, 150], [0, 200, 333], **gqa)
    yield "self_attention", tfcore.self_attention(x, x, x)
    yield "multi_head_attention", tfcore.multi_head_attention(x, x, x, num_heads=6)
    yield "matmul", tfcore.matmul(x, weight.T)
    for activation in (None, "relu", "gelu", "gelu_tanh", "silu", "tanh"):
        yield f"linear, {activation}", tfcore.linear(x, weight, bias, activation=activation, residual=x[:, :270])
        yield f"packed, {activation}", tfcore.PackedLinear(weight, bias)(x, activation=activation)
    yield "feed_forward", tfcore.feed_forward(x, weight, bias, weight.T, None)
    yield "softmax", tfcore.softmax(4 * x)
    yield "log_softmax", tfcore.log_softmax(4 * x)
    yield "softmax, axis 0", tfcore.softmax(4 * x, axis=0)
    yield "layer_norm", tfcore.layer_norm(x, weight[0], weight[1])
    yield "rms_norm", tfcore.rms_norm(x, weight[0])
    yield "gelu", tfcore.gelu(4 * x)
    yield "gelu, tanh", tfcore.gelu(4 * x, approximate="tanh")
    yield "silu", tfcore.silu(4 * x)
    yield "relu", tfcore.relu(x)
    yield "positional_encoding", tfcore.positional_encoding(700, 101, dtype=dtype)
    yield "positional_encoding, split", tfcore.positional_encoding(70, 101, dtype=dtype, layout="split", offset=10**7)
    yield "rotary_embedding", tfcore.rotary_embedding(q, base=500.0)
    yield "rotary_embedding, interleaved", tfcore.rotary_embedding(q, interleaved=True, rotary_dim=32)


def test_every_number_of_threads(isa, dtype):
    with tfcore.num_threads(1):
        want = dict(everything(dtype))
    for threads in (2, 3, 5, 16):
        with tfcore.num_threads(threads):
            for name, got in everything(dtype):
                assert_same_bits(got, want[name], f"{name}, {threads} threads")


def test_again(machine, dtype):
    want = dict(everything(dtype))
    for name, got in everything(dtype):
        assert_same_bits(got, want[name], name)


@pytest.mark.skipif(len(FMA_ISAS) < 2, reason="this CPU has one instruction set with fused multiply-add")
def test_every_instruction_set_with_fma(dtype):
    with tfcore.use_isa(FMA_ISAS[0]):
        want = dict(everything(dtype))
    for isa in FMA_ISAS[1:]:
        with tfcore.use_isa(isa):
            for name, got in everything(dtype):
                assert_same_bits(got, want[name], f"{name}, {isa}")


@pytest.mark.skipif(len(FMA_ISAS) < 2, reason="this CPU has one instruction set with fused multiply-add")
def test_hostile_numbers_on_every_instruction_set_with_fma(dtype):
    """Where a polynomial meets the ends of the number line, conversions and flags could differ."""
    with np.errstate(over="ignore"):
        x = np.concatenate([np.logspace(-330, 308, 4001), np.linspace(0, 130, 4001), [np.inf, 0.0]]).astype(dtype)
    x = np.concatenate([x, -x])
    functions = [tfcore.gelu, lambda x: tfcore.gelu(x, approximate="tanh"), tfcore.silu, tfcore.relu]
    functions += [
        lambda x, a=a: tfcore.linear(x[:, None], np.ones((1, 1), dtype), activation=a) for a in ("tanh", "gelu")
    ]
    finite = x[np.isfinite(x)]
    rows = np.lib.stride_tricks.sliding_window_view(finite, 5)
    functions += [
        lambda _: tfcore.softmax(rows),
        lambda _: tfcore.log_softmax(rows),
        lambda _: tfcore.rotary_embedding(rows[:, :4]),
    ]
    functions += [lambda _: tfcore.rotary_embedding(np.ones((50, 64), dtype), np.arange(50) + 3 * 10**7)]
    with tfcore.use_isa(FMA_ISAS[0]):
        want = [f(x) for f in functions]
    for isa in FMA_ISAS[1:]:
        with tfcore.use_isa(isa):
            for i, (f, w) in enumerate(zip(functions, want, strict=True)):
                assert_same_bits(f(x), w, f"function {i}, {isa}")
