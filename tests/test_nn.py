"""tfcore.nn: PyTorch's recorded numbers, the same bits however they come about, state dicts, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tfcore
from arrays import FLOATS, OnlyDLPack, normal
from closeness import assert_close, assert_same_bits
from nn_cases import BUCKETS, KINDS, RECORDED, draw_case, run_tfcore
from tfcore import nn, reference
from tfcore.relative import relative_buckets

CLOSE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-10}


@pytest.fixture(scope="module")
def golden():
    return np.load(Path(__file__).parent / "golden" / "nn.npz")


@pytest.fixture(params=FLOATS, ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_numbers_of_pytorch(golden, kind):
    for number in range(RECORDED):
        case = draw_case(kind, number)
        for i, got in enumerate(run_tfcore(case)):
            want = golden[f"{kind}.{number}.{i}"]
            assert_close(got, want, bound=CLOSE[case.dtype], dtype=case.dtype, what=f"{kind} {number} {i}")


# --- the same bits, however they come about --------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "pre-norm, gated": {"norm_first": True, "activation": "swiglu"},
    "rms, no bias, rotary": {"norm": "rms", "bias": False, "positions": nn.RotaryPositions(rotary_dim=4)},
    "rotary pairs, YaRN": {
        "positions": nn.RotaryPositions(
            interleaved=True, scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}
        )
    },
    "shared heads, ALiBi": {"num_kv_heads": 2, "positions": nn.ALiBiPositions()},
    "buckets": {"positions": nn.BucketedPositions(4, 8, 20, bidirectional=False), "scale": 1.0},
    "window": {"window": (3, 0), "num_kv_heads": 1, "head_dim": 12},
}


def decoder_of(options, dtype, layers=2, **others):
    options = dict(options)
    if isinstance(options.get("positions"), nn.BucketedPositions):
        options["positions"] = nn.BucketedPositions(4, 8, 20, bidirectional=False, dtype=dtype)
    return nn.Decoder(nn.DecoderLayer(32, 4, 40, dtype=dtype, **options, **others), layers)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_steps_give_the_bits_of_the_whole(rng, dtype, options):
    decoder = decoder_of(options, dtype)
    tgt, memory = normal(rng, 3, 23, 32, dtype=dtype), normal(rng, 3, 11, 32, dtype=dtype)
    padding = np.arange(11) >= np.array([[11], [4], [7]])
    whole = decoder(tgt, memory, tgt_is_causal=True, memory_key_padding_mask=padding)
    cache = nn.KVCache(capacity=5)  # outgrown twice
    chunks = np.split(tgt, [1, 2, 3, 10, 11, 22], axis=1)
    rows = [decoder(chunk, memory, memory_key_padding_mask=padding, cache=cache) for chunk in chunks]
    assert_same_bits(np.concatenate(rows, axis=1), whole)
    assert cache.length == 23


def test_an_encoder_with_a_cache_is_a_decoder_without_memory(rng, dtype):
    model = nn.Encoder(nn.EncoderLayer(32, 4, 40, dtype=dtype, positions=nn.RotaryPositions()), 2, nn.RMSNorm(32))
    x = normal(rng, 2, 40, 32, dtype=dtype)
    whole, cache = model(x, is_causal=True), nn.KVCache()
    assert_same_bits(np.concatenate([model(x[:, i : i + 1], cache=cache) for i in range(40)], axis=1), whole)


def test_all_layers_and_attention_take_their_part_of_a_cache(rng):
    layers = [nn.DecoderLayer(16, 2, 20, seed=i) for i in range(2)]
    tgt, memory = normal(rng, 2, 6, 16), normal(rng, 2, 5, 16)
    cache, steps = nn.KVCache(), []
    for i in range(6):
        x = tgt[:, i : i + 1]
        for number, layer in enumerate(layers):
            x = layer(x, memory, cache=cache.layer(number))
        steps.append(x)
    assert_same_bits(np.concatenate(steps, axis=1), nn.Decoder(layers)(tgt, memory, tgt_is_causal=True))
    attention = nn.MultiHeadAttention(16, 4, add_bias_kv=True, add_zero_attn=True)
    whole, weights = attention(tgt, tgt, tgt, is_causal=True)
    cache = nn.KVCache().layer(0).self_attn
    for i in range(6):
        step, found = attention(tgt[:, [i]], tgt[:, [i]], tgt[:, [i]], cache=cache)
        assert_same_bits(step[:, 0], whole[:, i])
        assert_same_bits(found[:, 0, : i + 1], weights[:, i, : i + 1])
        assert_same_bits(found[:, 0, -2:], weights[:, i, -2:])


def test_padding_of_tgt_and_masks_have_columns_for_the_cache(rng):
    """Prompts of different lengths, padded on the left, go on step by step."""
    model = decoder_of({"norm_first": True}, np.float32)
    tgt, memory = normal(rng, 2, 9, 32), normal(rng, 2, 4, 32)
    padding = np.arange(9) < np.array([[0], [3]])
    mask = rng.standard_normal((9, 9)).astype(np.float32)
    whole = model(tgt, memory, tgt_mask=mask, tgt_key_padding_mask=padding, tgt_is_causal=True)
    cache = nn.KVCache()
    for start, stop in ((0, 5), (5, 6), (6, 9)):
        rows = model(
            tgt[:, start:stop],
            memory,
            tgt_mask=mask[start:stop, :stop],
            tgt_key_padding_mask=padding[:, :stop],
            cache=cache,
        )
        assert_same_bits(rows, whole[:, start:stop])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_alone_or_in_a_batch_padded_or_not(rng, dtype, options):
    model = decoder_of(options, dtype)
    lengths, memories = (7, 1, 12), (5, 9, 2)
    tgt, memory = normal(rng, 3, 12, 32, dtype=dtype), normal(rng, 3, 9, 32, dtype=dtype)
    padding, memory_padding = (np.arange(n) >= np.array(real)[:, None] for n, real in ((12, lengths), (9, memories)))
    tgt[padding], memory[memory_padding] = np.nan, np.nan
    together = model(
        tgt,
        memory,
        tgt_is_causal=True,
        tgt_key_padding_mask=padding,
        memory_key_padding_mask=memory_padding,
    )
    for row, length, of_memory in zip(range(3), lengths, memories, strict=True):
        alone = model(tgt[row, :length], memory[row, :of_memory], tgt_is_causal=True)
        assert_same_bits(together[row, :length], alone, f"row {row}")


def test_keys_beside_the_sequence_are_seen_whatever_is_padding(rng, dtype):
    layer = nn.MultiHeadAttention(16, 4, add_bias_kv=True, add_zero_attn=True, dtype=dtype)
    x, lengths = normal(rng, 4, 7, 16, dtype=dtype), (7, 3, 1, 0)
    padding = np.arange(7) >= np.array(lengths)[:, None]
    for hidden in (padding, np.where(padding, -np.inf, 0)):
        output, weights = layer(x, x, x, key_padding_mask=hidden)
        for row, length in enumerate(lengths):
            alone, seen = layer(x[row], x[row, :length], x[row, :length])
            assert_same_bits(output[row], alone)
            assert_same_bits(weights[row, :, :length], seen[:, :length])
            assert_same_bits(weights[row, :, 7:], seen[:, length:])
            assert not weights[row, :, length:7].any()


def test_the_documented_order_of_arguments(rng):
    """`activation` and `norm_first` may be given by place, as `dim_feedforward` may."""
    src, tgt = normal(rng, 2, 5, 16), normal(rng, 2, 3, 16)
    named = nn.Transformer(16, 2, 1, 1, 32, activation="gelu", norm_first=True)
    assert_same_bits(nn.Transformer(16, 2, 1, 1, 32, "gelu", True)(src, tgt), named(src, tgt))


def test_the_layout_and_the_form_of_masks_change_no_bit(rng):
    options = {"nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 1, "dim_feedforward": 20}
    first, second = nn.Transformer(16, **options), nn.Transformer(16, batch_first=False, **options)
    second.load_state_dict(first.state_dict())
    src, tgt = normal(rng, 3, 9, 16), normal(rng, 3, 6, 16)
    padding, causal = np.arange(9) >= np.array([[9], [4], [2]]), np.triu(np.ones((6, 6), bool), 1)
    want = first(src, tgt, tgt_is_causal=True, src_key_padding_mask=padding, memory_key_padding_mask=padding)
    as_float = np.where(padding, -np.inf, 0.0)
    for mask in (causal, np.where(causal, -np.inf, 0), np.tile(causal, (12, 1, 1))):
        for hidden in (padding, as_float, as_float.astype(np.float32)):
            given = {"tgt_mask": mask, "src_key_padding_mask": hidden, "memory_key_padding_mask": hidden}
            assert_same_bits(first(src, tgt, **given), want)
            got = second(src.swapaxes(0, 1), tgt.swapaxes(0, 1), **given)
            assert_same_bits(got.swapaxes(0, 1), want)
    for row, length in enumerate((9, 4, 2)):
        given = {"src_key_padding_mask": padding[row], "memory_key_padding_mask": padding[row], "tgt_mask": causal}
        for model in (first, second):
            assert_same_bits(model(src[row], tgt[row], **given), want[row], f"alone, {length} long")
    assert_same_bits(
        first(
            OnlyDLPack(src),
            tgt.tolist(),
            **given | {"src_key_padding_mask": padding.tolist(), "memory_key_padding_mask": padding},
        ),
        first(
            src, tgt.astype(np.float64), src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_mask=causal
        ),
    )


def test_threads_and_weights_on_request_change_no_bit(rng):
    attention = nn.MultiHeadAttention(48, 4, positions=nn.ALiBiPositions())
    x = normal(rng, 2, 70, 48)
    want = attention(x, x, x, is_causal=True, need_weights=False)[0]
    for threads in (1, 3):
        with tfcore.num_threads(threads):
            got, weights = attention(x, x, x, is_causal=True, average_attn_weights=False)
        assert_same_bits(got, want)
        assert_close(weights.sum(axis=-1), np.ones((2, 4, 70)), bound=1e-5)
    assert_close(attention(x, x, x, is_causal=True)[1], weights.mean(axis=1), bound=1e-7)


# --- the cache -------------------------------------------------------------------------------------------------------


def test_rows_of_a_cache_are_selected(rng):
    model = decoder_of({}, np.float32)
    tgt, memory = normal(rng, 3, 6, 32), normal(rng, 3, 5, 32)
    for rows in ([2, 0, 0], [1, 1, 0, 2, 2], [1]):
        cache = nn.KVCache()
        model(tgt[:, :4], memory, cache=cache)
        cache.select(rows)
        assert cache.rows == len(rows)
        want = model(tgt[rows], memory[rows], tgt_is_causal=True)
        assert_same_bits(model(tgt[rows, 4:5], memory[rows], cache=cache), want[:, 4:5])
        assert_same_bits(model(tgt[rows, 5:], cache=cache), want[:, 5:])


def test_a_cache_goes_back(rng):
    model = decoder_of({}, np.float32)
    tgt, memory, cache = normal(rng, 2, 8, 32), normal(rng, 2, 5, 32), nn.KVCache()
    want = model(tgt, memory, cache=cache)
    for length in (5, 0):
        cache.truncate(length)
        assert cache.length == length
        assert_same_bits(model(tgt[:, length:], cache=cache), want[:, length:])


def test_a_step_that_fails_leaves_the_cache_as_it_was(rng, monkeypatch):
    model = decoder_of({}, np.float32, layers=3)
    tgt, memory = normal(rng, 2, 8, 32), normal(rng, 2, 5, 32)
    want = model(tgt, memory, tgt_is_causal=True)
    for done, looked_at in ((0, 0), (0, 2), (0, 5), (4, 0)):
        cache = nn.KVCache()
        for number in range(looked_at):
            assert cache.layer(number).length == 0
        if done:
            model(tgt[:, :done], memory, cache=cache)
        with monkeypatch.context() as patch:
            patch.setattr(model.layers[1].feed_forward, "linear1", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                model(tgt[:, done:], normal(rng, 2, 5, 32) if not done else memory, cache=cache)
        assert cache.length == done
        assert_same_bits(model(tgt[:, done:], memory, cache=cache), want[:, done:])


def test_what_a_layer_beyond_keeps_is_not_dropped(rng):
    x, cache = normal(rng, 2, 3, 32), nn.KVCache()
    model = nn.Encoder(nn.EncoderLayer(32, 4, 20), 1)
    model.layers[0](x, cache=cache.layer(1))
    with pytest.raises(ValueError, match="that of 2 layers, expected 1"):
        model(x, cache=cache)
    assert cache.layer(1).length == 3


def test_a_layers_own_step_that_fails_leaves_its_cache_as_it_was(rng, monkeypatch):
    layer = decoder_of({}, np.float32).layers[0]
    tgt, memory = normal(rng, 2, 8, 32), normal(rng, 2, 5, 32)
    want = layer(tgt, memory, tgt_is_causal=True)
    for done in (0, 4):
        cache = nn.KVCache().layer(0)
        if done:
            layer(tgt[:, :done], memory, cache=cache)
        with monkeypatch.context() as patch:
            patch.setattr(layer.feed_forward, "linear1", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                layer(tgt[:, done:], memory, cache=cache)
        assert (cache.length, cache.memory_length) == (done, 5 if done else None)
        assert_same_bits(layer(tgt[:, done:], memory, cache=cache), want[:, done:])
    attention, keys = nn.MultiHeadAttention(32, 4), nn.KVCache().layer(0).self_attn
    monkeypatch.setattr(attention, "out_proj", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        attention(tgt, tgt, tgt, cache=keys)
    assert (keys.length, keys.rows) == (0, None)


def _interrupted(*args, **options):
    raise KeyboardInterrupt


def test_a_step_copies_nothing_of_the_past_and_computes_the_memory_once(rng):
    model = decoder_of({}, np.float32)
    x, memory, cache = normal(rng, 2, 1, 32), normal(rng, 2, 5, 32), nn.KVCache()
    model(x, memory, cache=cache)
    before = [array.ctypes.data for array in (*cache.layer(1).self_attn.kept, *cache.layer(1).cross_attn.kept)]
    for _ in range(600):
        model(x, np.full_like(memory, np.nan), cache=cache)
    assert cache.length == 601
    assert before == [array.ctypes.data for array in (*cache.layer(1).self_attn.kept, *cache.layer(1).cross_attn.kept)]


def test_room_that_is_not_used_costs_no_memory(rng):
    model = decoder_of({}, np.float32)
    x, memory, cache = normal(rng, 2, 1, 32), normal(rng, 2, 5, 32), nn.KVCache(capacity=2**21)
    model(x, memory)
    before = resident()
    for _ in range(20):
        model(x, memory, cache=cache)
    room = 2 * 2 * x.nbytes * 2**21  # keys and values of two layers
    assert room >= 2**30
    assert resident() - before <= room / 20


def resident():
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_sequence_without_a_batch_goes_step_by_step_too(rng):
    model = decoder_of({}, np.float32)
    tgt, memory, cache = normal(rng, 6, 32), normal(rng, 5, 32), nn.KVCache()
    whole = model(tgt, memory, tgt_is_causal=True)
    assert_same_bits(np.concatenate([model(tgt[i : i + 1], memory, cache=cache) for i in range(6)]), whole)


# --- formulas --------------------------------------------------------------------------------------------------------


def attend_by_formula(layer, x, mask, turned=None, **restrictions):
    """MultiHeadAttention in float64 by the plain NumPy operators."""
    state = {name: array.astype(np.float64) for name, array in layer.state_dict().items()}
    heads, shared, size = layer.num_heads, layer.num_kv_heads, layer.head_dim
    product = x @ state["in_proj_weight"].T + state["in_proj_bias"]
    parts = np.split(product, [heads * size, (heads + shared) * size], axis=-1)
    q, k, v = (part.reshape(*x.shape[:2], -1, size).transpose(0, 2, 1, 3) for part in parts)
    if turned is not None:
        q, k = turned(q), turned(k)
    k, v = (np.repeat(part, heads // shared, axis=1) for part in (k, v))
    found = reference.scaled_dot_product_attention(q, k, v, mask, **restrictions)
    merged = found.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
    return merged @ state["out_proj.weight"].T + state["out_proj.bias"]


SCALING = {"rope_type": "linear", "factor": 4.0}


def test_heads_positions_and_windows_by_formula(rng, dtype):
    x = normal(rng, 2, 20, 32, dtype=dtype)
    wide = x.astype(np.float64)
    hidden = rng.random((20, 20)) < 0.3
    hidden[:, 0] = False

    def check(turned=None, restrictions=None, **options):
        layer = nn.MultiHeadAttention(32, 4, dtype=dtype, **options)
        got = layer(x, x, x, attn_mask=hidden, is_causal=True)[0]
        want = attend_by_formula(layer, wide, ~hidden, turned, is_causal=True, **restrictions or {})
        assert_close(got, want, bound=CLOSE[np.dtype(dtype)], dtype=dtype, what=str(options))

    check()
    check(num_kv_heads=2)
    check(num_kv_heads=1, head_dim=24)
    check(restrictions={"window": (4, 1)}, window=(4, 1))
    check(restrictions={"scale": 0.7}, scale=0.7)
    check(restrictions={"alibi_slopes": reference.alibi_slopes(4)}, positions=nn.ALiBiPositions())
    for form in ({}, {"interleaved": True}, {"rotary_dim": 4, "base": 100.0}, {"scaling": SCALING}):
        check(partial(reference.rotary_embedding, **form), positions=nn.RotaryPositions(**form))


def test_buckets_are_those_of_t5(golden):
    for name, (bidirectional, buckets, furthest) in BUCKETS.items():
        got = relative_buckets(np.arange(-300, 301), buckets, furthest, bidirectional=bidirectional)
        assert np.array_equal(got, golden[f"buckets.{name}"]), name
    for buckets, furthest in ((2, 128), (8, 2)):
        with pytest.raises(ValueError, match=f"{buckets} buckets up to a distance of {furthest}: expected at least 4"):
            relative_buckets(np.arange(3), buckets, furthest)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_buckets_are_added_to_the_scores(rng, dtype, bidirectional):
    positions = nn.BucketedPositions(4, 8, 12, bidirectional, dtype=dtype)
    layer = nn.MultiHeadAttention(32, 4, dtype=dtype, positions=positions, scale=1.0)
    x, hidden = normal(rng, 2, 20, 32, dtype=dtype), rng.random((20, 20)) < 0.3
    hidden[:, 0] = False
    distances = np.arange(20) - np.arange(20)[:, None]
    bias = positions.weight[relative_buckets(distances, 8, 12, bidirectional=bidirectional)].transpose(2, 0, 1)
    wide = x.astype(np.float64)
    for mask in (hidden, np.where(hidden, -np.inf, 0.5)):
        want = attend_by_formula(layer, wide, np.where(hidden, -np.inf, bias), scale=1.0)
        assert_close(layer(x, x, x, attn_mask=mask)[0], want, bound=CLOSE[np.dtype(dtype)], dtype=dtype)
    assert "positions.weight" in layer.state_dict()


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": reference.gelu,
    "gelu_tanh": lambda x: reference.gelu(x, approximate="tanh"),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_by_formula(rng, dtype, gated):
    names = {"reglu": "relu", "geglu": "gelu", "geglu_tanh": "gelu_tanh", "swiglu": "silu"}
    for name, function in names.items() if gated else zip(ACTIVATIONS, ACTIVATIONS, strict=True):
        layer = nn.FeedForward(8, 20, name, dtype=dtype)
        w = {name: array.astype(np.float64) for name, array in layer.state_dict().items()}
        x = normal(rng, 3, 8, dtype=dtype).astype(np.float64)
        hidden = ACTIVATIONS[function](x @ w["linear1.weight"].T + w["linear1.bias"])
        if gated:
            hidden = hidden * (x @ w["linear3.weight"].T + w["linear3.bias"])
        want = hidden @ w["linear2.weight"].T + w["linear2.bias"]
        assert_close(layer(x.astype(dtype)), want, bound=CLOSE[np.dtype(dtype)] / 5, dtype=dtype, what=name)


def test_positions_that_are_added(rng, dtype):
    x = normal(rng, 2, 5, 8, dtype=dtype)
    for layout in ("interleaved", "split"):
        got = nn.SinusoidalPositions(8, layout=layout)(x, offset=3)
        want = x + reference.positional_encoding(5, 8, offset=3, layout=layout)
        assert_close(got, want, bound=1e-6 if dtype == np.float32 else 1e-14, dtype=dtype)
    assert nn.SinusoidalPositions(8)(np.ones((2, 8), np.int8)).dtype == np.float64
    learned = nn.LearnedPositions(9, 8, dtype=dtype)
    assert_same_bits(learned(x, offset=4), x + learned.weight[4:9])


# --- rows that see nothing -------------------------------------------------------------------------------------------


def test_a_row_that_sees_nothing_finds_zeros(rng, dtype):
    x = normal(rng, 2, 5, 16, dtype=dtype)
    for bias in (True, False):
        layer = nn.MultiHeadAttention(16, 4, bias=bias, dtype=dtype)
        if bias:
            layer.out_proj.bias = normal(rng, 16, dtype=dtype)
        hidden = np.zeros((5, 5), bool)
        hidden[3] = True
        padding = np.array([[False] * 5, [True] * 5])
        output, weights = layer(x, x, x, attn_mask=hidden, key_padding_mask=padding)
        nothing = layer.out_proj.bias if bias else np.zeros(16, dtype)
        for row in (output[0, 3], *output[1]):
            assert_same_bits(row, nothing)
        assert not weights[0, 3].any()
        assert not weights[1].any()
        assert np.isfinite(output).all()
    model = nn.Transformer(16, 4, 1, 1, 20, dtype=dtype)
    everything = np.ones((2, 5), bool)
    given = dict.fromkeys(("src_key_padding_mask", "tgt_key_padding_mask", "memory_key_padding_mask"), everything)
    assert np.isfinite(model(x, x, **given)).all()


def test_empty_sequences_and_batches():
    model = nn.Transformer(16, 4, 1, 1, 20)
    for batch, source, target in ((0, 5, 4), (2, 0, 4), (2, 5, 0)):
        src, tgt = np.ones((batch, source, 16), np.float32), np.ones((batch, target, 16), np.float32)
        result = model(src, tgt)
        assert result.shape == tgt.shape
        assert np.isfinite(result).all()
    layers, cache, nobody = nn.Encoder(nn.EncoderLayer(16, 4, 20), 1), nn.KVCache(), np.ones((0, 3, 16), np.float32)
    for _ in range(2):
        assert layers(nobody, cache=cache).shape == nobody.shape


# --- weights ---------------------------------------------------------------------------------------------------------


def small(**options):
    return nn.Transformer(8, 2, 1, 1, 12, **options)


def test_fresh_weights_repeat():
    first, again, other, random = (small(seed=seed).state_dict() for seed in (1, 1, 2, None))
    for name, array in first.items():
        assert_same_bits(array, again[name])
        if array.ndim > 1:
            assert not np.array_equal(array, other[name]), name
            assert not np.array_equal(array, random[name]), name
    values = [array.tobytes() for array in first.values() if array.ndim > 1]
    assert len(set(values)) == len(values), "two matrices are equal"


def test_a_state_goes_there_and_back(rng):
    state = {name: normal(rng, *array.shape) for name, array in small().state_dict().items()}
    model = small()
    model.load_state_dict(state)
    for name, array in model.state_dict().items():
        assert_same_bits(array, state[name])
    whole = model.state_dict("model.") | {"head.weight": np.ones((3, 8))}
    other = small(seed=3)
    other.load_state_dict(whole, prefix="model.")
    x = normal(rng, 2, 4, 8)
    assert_same_bits(other(x, x), model(x, x))


def test_every_fault_of_a_state_is_listed_and_nothing_is_loaded():
    model = small()
    before = model.state_dict()
    state = model.state_dict()
    del state["encoder.norm.bias"], state["decoder.layers.0.linear1.weight"]
    state |= {
        "encoder.layers.1.linear1.weight": np.ones((12, 8)),
        "decoder.norm.weight": np.ones(9),
        "decoder.norm.bias": np.ones((8, 1)),
        "encoder.layers.0.linear1.weight": np.zeros((12, 8), np.int64),
        "encoder.layers.0.linear1.bias": "a word",
        "encoder.layers.0.linear2.bias": [1.0] * 7 + [1e300],
        "encoder.layers.0.norm1.bias": np.zeros(8, complex),
        "encoder.layers.0.norm2.bias": None,
        7: np.ones(3),
    }
    with pytest.raises(ValueError, match="does not fit") as caught:
        model.load_state_dict(state)
    lines = str(caught.value).splitlines()[1:]
    wanted = [
        ("'encoder.norm.bias'", "missing", "(8,)"),
        ("'decoder.layers.0.linear1.weight'", "missing", "(12, 8)"),
        ("'encoder.layers.1.linear1.weight'", "unexpected"),
        ("7", "unexpected"),
        ("'encoder.layers.0.linear1.weight'", "int64", "float"),
        ("'encoder.layers.0.linear1.bias'", "str"),
        ("'encoder.layers.0.linear2.bias'", "1e+300", "float32"),
        ("'encoder.layers.0.norm1.bias'", "complex128"),
        ("'encoder.layers.0.norm2.bias'", "NoneType"),
        ("'decoder.norm.weight'", "(9,)", "(8,)"),
        ("'decoder.norm.bias'", "(8, 1)", "(8,)"),
    ]
    assert len(lines) == len(wanted), lines
    for words in wanted:
        assert any(all(word in line for word in words) for line in lines), (words, lines)
    for name, array in model.state_dict().items():
        assert_same_bits(array, before[name])
    with pytest.raises(ValueError, match=r"its names fit with prefix='module\.'"):
        model.load_state_dict(model.state_dict("module."))
    with pytest.raises(ValueError, match="'weight' is unexpected"):
        nn.LayerNorm(8, elementwise_affine=False).load_state_dict({"weight": np.ones(8)})
    for bad in (None, [1, 2], "state"):
        with pytest.raises(TypeError, match="state"):
            model.load_state_dict(bad)


def test_a_weight_is_replaced_as_a_whole():
    layer = nn.Linear(3, 2)
    x = np.ones(3, np.float32)
    layer(x)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 1
    given = np.full((2, 3), 2.0)
    layer.weight, layer.bias = given, [0, 1.0]
    given[...] = 0
    assert layer(x).tolist() == [6.0, 7.0]
    with pytest.raises(ValueError, match=r"weight has shape \(3, 2\), expected \(2, 3\)"):
        layer.weight = np.ones((3, 2))
    with pytest.raises(ValueError, match="made without bias"):
        nn.Linear(3, 2, bias=False).bias = np.ones(2)
    assert nn.Linear(3, 2, bias=False).bias is None


def test_a_weight_replaced_while_another_thread_packs_the_old_one():
    x = np.ones(3000, np.float32)
    for _ in range(5):
        layer = nn.Linear(3000, 3000, bias=False)
        thread = threading.Thread(target=layer, args=(x,))
        thread.start()
        time.sleep(0.0005)
        layer.load_state_dict({"weight": np.zeros((3000, 3000), np.float32)})
        thread.join()
        assert not layer(x).any()


def test_a_cache_is_copied_without_its_room(rng):
    model = nn.Transformer(32, 4, 1, 2, 64)
    memory, tgt = rng.standard_normal((2, 2, 3, 32), dtype=np.float32)
    cache = nn.KVCache()
    model.decode(tgt, memory, cache=cache)
    pickled = pickle.dumps(cache)
    assert len(pickled) < 20_000
    for other in (copy.deepcopy(cache), pickle.loads(pickled)):
        want = model.decode(tgt[:, :1], cache=copy.deepcopy(cache))
        assert np.array_equal(model.decode(tgt[:, :1], cache=other), want)
        assert other.length == 4
    assert cache.length == 3


def test_a_cache_of_more_than_there_is(rng):
    x = np.ones((1, 1, 32), np.float32)
    for capacity in (10**12, 10**18):
        cache = nn.KVCache(capacity)
        with pytest.raises(MemoryError, match="no room for a cache of"):
            nn.Transformer(32, 4, 1, 1, 64).decode(x, x, cache=cache)
        assert cache.length == 0


def test_copies_and_pickles(rng):
    model, x = small(), normal(rng, 2, 4, 8)
    want = model(x, x)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_same_bits(other(x, x), want)
        with pytest.raises(ValueError, match="read-only"):
            other.encoder.norm.weight[0] = 1
        other.encoder.norm.weight = np.zeros(8)
        assert not np.array_equal(other(x, x), want)
    assert_same_bits(model(x, x), want)


def test_calls_from_several_threads(rng):
    model, inputs = small(), normal(rng, 20, 3, 8)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: model(x, x), inputs))
    for result, x in zip(results, inputs, strict=True):
        assert_same_bits(result, model(x, x))


def test_dtypes(rng):
    x = normal(rng, 2, 4, 8, dtype=np.float64)
    assert small()(x.astype(np.float32), x.astype(np.float32)).dtype == np.float32
    assert small()(x, x).dtype == np.float64
    assert small(dtype=np.float64)(x.astype(np.float32), x.astype(np.float32)).dtype == np.float64
    assert small()(x.astype(np.float16), x.astype(np.float16)).dtype == np.float32


# --- what is refused -------------------------------------------------------------------------------------------------

SRC, TGT = np.ones((2, 5, 8), np.float32), np.ones((2, 4, 8), np.float32)
MODEL, ATTENTION = small(), nn.MultiHeadAttention(8, 2)


def call(**changes):
    return MODEL(**{"src": SRC, "tgt": TGT, **changes})


def attend(**changes):
    return ATTENTION(**{"query": TGT, "key": SRC, "value": SRC, **changes})


def continued(tgt=TGT[:, :1], memory=SRC, rows=2, **changes):
    cache = nn.KVCache()
    MODEL.decode(TGT[:rows], SRC[:rows], cache=cache)
    return MODEL.decode(tgt, memory, cache=cache, **changes)


def another(model=MODEL, **changes):
    cache = nn.KVCache()
    MODEL.decode(TGT, SRC, cache=cache)
    return model.decode(**{"tgt": TGT, "memory": SRC, "cache": cache, **changes})


def select(rows):
    cache = nn.KVCache()
    MODEL.decode(TGT, SRC, cache=cache)
    cache.select(rows)


# (what is called, arguments, error, what the message holds: the argument's name first)
BAD = [
    (call, {"src": SRC[..., :7]}, ValueError, ["src", "(2, 5, 7)", "(batch, length, 8)"]),
    (call, {"src": SRC[0, 0]}, ValueError, ["src", "(8,)", "(length, 8)"]),
    (call, {"src": SRC[0]}, ValueError, ["tgt", "(2, 4, 8)", "(length, 8)"]),
    (call, {"src": SRC[:1]}, ValueError, ["tgt", "2", "1", "src"]),
    (call, {"src": "words"}, TypeError, ["src", "str"]),
    (call, {"src": [[1, 2], [3]]}, TypeError, ["src", "list"]),
    (call, {"tgt": None}, TypeError, ["tgt", "NoneType"]),
    (call, {"src_mask": np.ones((5, 4), bool)}, ValueError, ["src_mask", "(5, 4)", "(5, 5)", "(4, 5, 5)"]),
    (call, {"src_mask": np.ones((2, 5, 5), bool)}, ValueError, ["src_mask", "(2, 5, 5)", "(4, 5, 5)"]),
    (call, {"tgt_mask": np.ones((4, 4), int)}, TypeError, ["tgt_mask", "int64", "bool"]),
    (call, {"memory_mask": np.ones((5, 4), bool)}, ValueError, ["memory_mask", "(5, 4)", "(4, 5)"]),
    (call, {"src_key_padding_mask": np.ones((5, 2), bool)}, ValueError, ["src_key_padding_mask", "(5, 2)", "(2, 5)"]),
    (call, {"tgt_key_padding_mask": np.ones(4, bool)}, ValueError, ["tgt_key_padding_mask", "(4,)", "(2, 4)"]),
    (call, {"memory_key_padding_mask": np.ones((2, 4))}, ValueError, ["memory_key_padding_mask", "(2, 4)", "(2, 5)"]),
    (call, {"memory_key_padding_mask": np.ones((2, 5), np.int8)}, TypeError, ["memory_key_padding_mask", "int8"]),
    (attend, {"query": TGT[0]}, ValueError, ["key", "(2, 5, 8)", "(length, 8)"]),
    (attend, {"key": SRC[:1]}, ValueError, ["key", "1", "2", "query"]),
    (attend, {"value": SRC[:, :4]}, ValueError, ["value", "(2, 4)", "(2, 5)", "key"]),
    (attend, {"key": SRC[..., :4]}, ValueError, ["key", "(2, 5, 4)", "8"]),
    (attend, {"attn_mask": np.ones((2, 2, 4, 5), bool)}, ValueError, ["attn_mask", "(2, 2, 4, 5)", "(4, 5)"]),
    (attend, {"key_padding_mask": np.ones((2, 4), bool)}, ValueError, ["key_padding_mask", "(2, 4)", "(2, 5)"]),
    (continued, {"tgt": TGT[:1]}, ValueError, ["tgt", "1", "2"]),
    (continued, {"memory": SRC[:, :3]}, ValueError, ["memory", "3", "5"]),
    (continued, {"memory": SRC[:1]}, ValueError, ["memory", "1", "2", "tgt"]),
    (continued, {"tgt_mask": np.ones((1, 1), bool)}, ValueError, ["tgt_mask", "(1, 1)", "(1, 5)"]),
    (MODEL.decode, {"tgt": TGT}, TypeError, ["memory", "missing"]),
    (MODEL.decode, {"tgt": TGT, "cache": nn.KVCache()}, TypeError, ["memory", "missing"]),
    (another, {"tgt": TGT.astype(np.float64)}, ValueError, ["2 sequences in 2 heads of 4 in float32", "float64"]),
    (another, {"model": small(num_kv_heads=1)}, ValueError, ["2 sequences in 2 heads of 4 in float32", "in 1 heads"]),
    (another, {"model": nn.Transformer(8, 2, 1, 2, 12)}, ValueError, ["cache", "1 layers", "2"]),
    (select, {"rows": [0, 2]}, ValueError, ["rows", "2", "0 to 1"]),
    (select, {"rows": [-1]}, ValueError, ["rows", "-1"]),
    (select, {"rows": [0.0]}, TypeError, ["rows", "float64"]),
    (select, {"rows": [True, False]}, TypeError, ["rows", "bool"]),
    (nn.KVCache().select, {"rows": [0]}, ValueError, ["empty"]),
    (nn.KVCache, {"capacity": 0}, ValueError, ["capacity", "0"]),
    (nn.KVCache, {"capacity": 1.5}, TypeError, ["capacity", "1.5", "integer"]),
    (nn.Transformer, {"d_model": 10, "nhead": 4}, ValueError, ["nhead", "4", "d_model", "10"]),
    (nn.MultiHeadAttention, {"embed_dim": 10, "num_heads": 4}, ValueError, ["num_heads", "4", "embed_dim", "10"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 4, "positions": "rotary"}, TypeError, ["positions", "str"]),
    (nn.EncoderLayer, {"d_model": 8.0, "nhead": 4}, TypeError, ["d_model", "8.0", "integer"]),
    (nn.Transformer, {"d_model": 0}, ValueError, ["d_model", "0", "positive"]),
    (nn.Transformer, {"num_decoder_layers": 0}, ValueError, ["num_decoder_layers", "0"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "activation": "swish"}, ValueError, ["activation", "'swish'"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "activation": 3}, TypeError, ["activation", "is 3", "'gelu'"]),
    (nn.Transformer, {"d_model": 8, "nhead": 2, "norm": "batch"}, ValueError, ["norm", "'batch'", "'rms'"]),
    (nn.Transformer, {"d_model": 8, "nhead": 2, "dtype": np.int32}, ValueError, ["dtype", "int32", "float32"]),
    (nn.Transformer, {"d_model": 8, "nhead": 2, "dtype": np.float16}, ValueError, ["dtype", "float16"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 4, "num_kv_heads": 3}, ValueError, ["num_kv_heads", "3", "4"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 4.0}, TypeError, ["num_heads", "4.0", "integer"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 2, "add_zero_attn": True, "window": (1, 0)}, ValueError,
     ["add_zero_attn", "window"]),
    (nn.Encoder, {"encoder_layer": nn.EncoderLayer(8, 2, 12)}, TypeError, ["num_layers", "None"]),
    (nn.Encoder, {"encoder_layer": []}, ValueError, ["encoder_layer", "empty"]),
    (nn.Encoder, {"encoder_layer": nn.Linear(3, 2)}, TypeError, ["encoder_layer", "Linear", "EncoderLayer"]),
    (nn.Decoder, {"decoder_layer": [nn.EncoderLayer(8, 2, 12)]}, TypeError, ["decoder_layer", "EncoderLayer"]),
    (nn.Decoder, {"decoder_layer": [nn.DecoderLayer(8, 2, 12)], "norm": "rms"}, TypeError, ["norm", "str"]),
    (nn.Encoder, {"encoder_layer": [nn.EncoderLayer(8, 2, 12)], "num_layers": 2}, ValueError, ["num_layers", "2", "1"]),
    (nn.Linear(3, 2), {"x": np.ones((2, 4))}, ValueError, ["x", "(2, 4)", "3"]),
    (nn.Encoder([nn.EncoderLayer(8, 2, 12)]), {"src": SRC, "cache": 3}, TypeError, ["cache", "int", "KVCache"]),
    (nn.EncoderLayer(8, 2, 12), {"src": SRC, "cache": nn.KVCache()}, TypeError, ["KVCache", "KVCache().layer(0)"]),
    (nn.MultiHeadAttention(8, 2), {"query": SRC, "key": SRC, "value": SRC, "cache": nn.KVCache()}, TypeError,
     ["KVCache", "KVCache().layer(0).self_attn"]),
    (nn.Embedding(5, 2), {"ids": [0, 5]}, ValueError, ["ids", "5", "0 to 4"]),
    (nn.Embedding(5, 2), {"ids": [-1]}, ValueError, ["ids", "-1"]),
    (nn.Embedding(5, 2), {"ids": [1.0]}, TypeError, ["ids", "float64"]),
    (nn.Embedding, {"num_embeddings": 5, "embedding_dim": 2, "padding_idx": 5}, ValueError, ["padding_idx", "5"]),
    (nn.Embedding, {"num_embeddings": 5, "embedding_dim": 2, "padding_idx": 1.5}, TypeError, ["padding_idx", "1.5"]),
    (nn.Embedding, {"num_embeddings": 5, "embedding_dim": 2, "padding_idx": True}, TypeError, ["padding_idx", "True"]),
    (nn.Linear, {"in_features": 5, "out_features": 2, "seed": -1}, ValueError, ["seed", "-1", "non-negative"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "seed": "a"}, TypeError, ["seed", "'a'", "integer"]),
    (nn.RotaryPositions, {"rotary_dim": 3}, ValueError, ["rotary_dim", "3", "even"]),
    (nn.RotaryPositions, {"rotary_dim": -2}, ValueError, ["rotary_dim", "-2", "non-negative"]),
    (nn.RotaryPositions, {"base": 0}, ValueError, ["base", "0", "positive"]),
    (nn.LayerNorm(3), {"x": np.ones((2, 4))}, ValueError, ["x", "(2, 4)", "(..., 3)"]),
    (nn.LayerNorm, {"normalized_shape": []}, ValueError, ["normalized_shape"]),
    (nn.RMSNorm, {"normalized_shape": 2.5}, TypeError, ["normalized_shape", "2.5", "integer"]),
    (nn.LayerNorm, {"normalized_shape": 2, "dtype": "foo"}, TypeError, ["dtype", "'foo'", "float32 or float64"]),
    (nn.LayerNorm, {"normalized_shape": 2, "dtype": {"names": [1]}}, TypeError, ["dtype", "float32 or float64"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "dropout": 1.1}, ValueError, ["dropout", "1.1", "0 to 1"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 2, "dropout": "a"}, TypeError, ["dropout", "'a'"]),
    (nn.RMSNorm, {"normalized_shape": 3, "dtype": int}, ValueError, ["dtype", "int64", "float32 or float64"]),
    (nn.RMSNorm, {"normalized_shape": 3, "eps": -1.0}, ValueError, ["eps", "-1"]),
    (nn.LayerNorm, {"normalized_shape": 4, "eps": "x"}, TypeError, ["eps", "'x'", "number"]),
    (nn.LayerNorm, {"normalized_shape": 4, "eps": np.array([1.0, 2.0])}, TypeError, ["eps", "[1.0, 2.0]", "number"]),
    (nn.LayerNorm, {"normalized_shape": 4, "eps": None}, TypeError, ["eps", "None", "number"]),
    (nn.LayerNorm, {"normalized_shape": 4, "eps": 10**400}, ValueError, ["eps", "float64"]),
    (nn.LearnedPositions(4, 8), {"x": SRC}, ValueError, ["x", "4"]),
    (nn.LearnedPositions(9, 8), {"x": SRC, "offset": -1}, ValueError, ["offset", "-1"]),
    (nn.SinusoidalPositions(6), {"x": SRC}, ValueError, ["x", "(2, 5, 8)", "6"]),
    (nn.SinusoidalPositions, {"d_model": 6, "layout": "mixed"}, ValueError, ["layout", "mixed"]),
    (nn.BucketedPositions, {"num_heads": 2, "num_buckets": 7}, ValueError, ["num_buckets", "7", "even"]),
    (nn.BucketedPositions, {"num_heads": 2, "max_distance": 8}, ValueError, ["max_distance", "8"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "positions": nn.BucketedPositions(3)}, ValueError,
     ["positions", "3", "2"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 2, "positions": nn.RotaryPositions(rotary_dim=8)}, ValueError,
     ["rotary_dim", "8", "0 to 4"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 2, "window": (1,)}, TypeError, ["window", "(left, right)"]),
    (nn.MultiHeadAttention, {"embed_dim": 8, "num_heads": 2, "scale": "x"}, TypeError, ["scale", "str"]),
    (nn.EncoderLayer, {"d_model": 8, "nhead": 2, "layer_norm_eps": -1}, ValueError, ["layer_norm_eps", "-1"]),
    (nn.Linear(2, 2).load_state_dict, {"state": {}, "prefix": 3}, TypeError, ["prefix", "3", "string"]),
    (nn.Transformer.generate_square_subsequent_mask, {"sz": -1}, ValueError, ["sz", "-1", "non-negative"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "arguments", "error", "words"), BAD, ids=[f"{i}-{case[3][0]}" for i, case in enumerate(BAD)]
)
def test_bad_input(function, arguments, error, words):
    with pytest.raises(error) as caught:
        function(**arguments)
    message = str(caught.value)
    assert type(caught.value) is error, message
    for word in words:
        assert word in message, f"{word!r} is not in: {message}"


def test_positions_keep_their_weights_in_a_transformer():
    """They are the caller's, and may be another model's, too."""
    positions = nn.BucketedPositions(2)
    positions.weight = np.arange(64.0).reshape(32, 2)
    nn.Transformer(8, 2, 1, 1, 12, positions=positions)
    assert_same_bits(positions.weight, np.arange(64, dtype=np.float32).reshape(32, 2))


def test_lowest_numbers_in_two_masks_hide(rng):
    x, hidden = normal(rng, 2, 5, 8), np.arange(5) >= 3
    lowest = np.where(hidden, np.finfo(np.float32).min, np.float32(0))
    got, _ = ATTENTION(x, x, x, attn_mask=np.tile(lowest, (5, 1)), key_padding_mask=np.tile(lowest, (2, 1)))
    assert_same_bits(got, ATTENTION(x, x, x, key_padding_mask=np.tile(hidden, (2, 1)))[0])


def test_the_eps_of_rms_norm_is_that_of_what_is_computed():
    for x in (np.full((1, 4), 1e-5), np.full((1, 4), 1e-2, np.float32)):
        want = x / np.sqrt(np.mean(x.astype(np.float64) ** 2) + np.finfo(x.dtype).eps)
        assert_close(nn.RMSNorm(4)(x), want, bound=4 * np.finfo(x.dtype).eps)


def test_a_cache_comes_out_of_read_only_memory(rng):
    decoder, cache, buffers = nn.Decoder(nn.DecoderLayer(8, 2, 12), 1), nn.KVCache(), []
    memory, tgt = normal(rng, 2, 5, 8), normal(rng, 2, 4, 8)
    want = decoder(tgt, memory, tgt_is_causal=True)
    decoder(tgt[:, :2], memory, cache=cache)
    content = pickle.dumps(cache, protocol=5, buffer_callback=buffers.append)
    other = pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers])
    other.select([1, 0])
    other.truncate(1)
    assert_same_bits(decoder(tgt[::-1, 1:], cache=other), want[::-1, 1:])


def test_a_copy_has_weights_of_its_own(rng):
    layer, x = nn.Linear(3, 4), normal(rng, 2, 3)
    want = layer(x)
    other = copy.copy(layer)
    other.weight = np.zeros((4, 3), np.float32)
    assert layer.weight.any()
    assert_same_bits(layer(x), want)


def test_dropout_does_nothing(rng):
    src, tgt = normal(rng, 2, 5, 8), normal(rng, 2, 3, 8)
    plain, dropping = (nn.Transformer(8, 2, 1, 1, 12, **more) for more in ({}, {"dropout": 0.5}))
    assert_same_bits(dropping(src, tgt), plain(src, tgt))
    attention = nn.MultiHeadAttention(8, 2, dropout=1)
    assert_same_bits(attention(src, src, src)[0], nn.MultiHeadAttention(8, 2)(src, src, src)[0])


def test_an_emptied_cache_keeps_its_memory_over_an_error(rng):
    decoder, cache = nn.Decoder(nn.DecoderLayer(8, 2, 12), 1), nn.KVCache()
    memory, tgt = normal(rng, 2, 5, 8), normal(rng, 2, 3, 8)
    want = decoder(tgt, memory, cache=cache)
    cache.truncate(0)
    with pytest.raises(ValueError, match="tgt"):
        decoder(tgt[:, :, :7], cache=cache)
    assert_same_bits(decoder(tgt, cache=cache), want)
