"""The reference: the operators' names and arguments, torch's and transformers' numbers, and its own identities."""

from __future__ import annotations

import ast
import inspect
import math

import numpy as np
import pytest
import tfcore
from arrays import normal
from closeness import assert_close
from signatures import parameters
from tfcore import reference
from tfcore.rope import rotary_frequencies

TIGHT = 1e-12  # both sides compute in float64: a few hundred roundings of numbers around one


def close(got, want):
    assert_close(got, want, bound=TIGHT * max(1.0, float(np.max(np.abs(want), initial=0.0))))


def doubles(rng, *shapes):
    return [normal(rng, *shape, dtype=np.float64) for shape in shapes]


# --- mirrors the operators -------------------------------------------------------------------------------------------

OPERATORS = sorted(reference.__all__)


@pytest.mark.parametrize("name", OPERATORS)
def test_same_parameters_as_the_operator(name):
    operator, plain = getattr(tfcore, name), getattr(reference, name)
    if inspect.isclass(plain):
        assert parameters(operator.__init__) == parameters(plain.__init__)
        assert parameters(operator.__call__) == parameters(plain.__call__)
    else:
        assert parameters(operator) == parameters(plain)


def test_same_names_as_the_operators():
    assert sorted(tfcore.ops.__all__) == OPERATORS
    assert set(OPERATORS) <= set(tfcore.__all__)


@pytest.mark.parametrize("module", ["reference", "rope"])
def test_imports_numpy_alone(module):
    path = __import__("pathlib").Path(reference.__file__).with_name(f"{module}.py")
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").partition(".")[0])
    standard = {"__future__", "collections", "functools", "math", "numbers", "typing"}
    assert imported - standard == ({"numpy", ".rope"} if module == "reference" else {"numpy"})


# --- torch's numbers -------------------------------------------------------------------------------------------------


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_attention_is_torchs(torch, rng):
    q, k, v = doubles(rng, (2, 6, 5, 16), (2, 2, 9, 16), (2, 2, 9, 8))
    full_k, full_v = np.repeat(k, 3, axis=1), np.repeat(v, 3, axis=1)
    bias = normal(rng, 2, 1, 5, 9, dtype=np.float64)
    seen = rng.random((6, 5, 9)) < 0.6
    seen[..., 0] = True
    cases = [
        ((q, full_k, full_v), {}),
        ((q, k, v), {"enable_gqa": True}),
        ((q, full_k, full_v), {"is_causal": True}),
        ((q, full_k, full_v), {"scale": 0.7}),
        ((q, full_k, full_v), {"attn_mask": bias}),
        ((q, full_k, full_v), {"attn_mask": seen}),
        ((q[0], full_k[0], full_v[0]), {"attn_mask": seen}),
        ((q[0, 0], k[0, 0], v[0, 0]), {}),
    ]
    for arrays, options in cases:
        as_torch = {n: torch.from_numpy(o) if isinstance(o, np.ndarray) else o for n, o in options.items()}
        want = torch.nn.functional.scaled_dot_product_attention(*map(torch.from_numpy, arrays), **as_torch)
        close(reference.scaled_dot_product_attention(*arrays, **options), want.numpy())


def test_norms_softmax_and_activations_are_torchs(torch, rng):
    functional = torch.nn.functional
    x, w, b = doubles(rng, (3, 5, 20), (20,), (20,))
    x *= 4
    tx, tw, tb = map(torch.from_numpy, (x, w, b))
    pairs = [
        (reference.softmax(x), tx.softmax(-1)),
        (reference.softmax(x, axis=1), tx.softmax(1)),
        (reference.log_softmax(x), tx.log_softmax(-1)),
        (reference.log_softmax(x, axis=1), tx.log_softmax(1)),
        (reference.layer_norm(x, w, b), functional.layer_norm(tx, (20,), tw, tb)),
        (reference.layer_norm(x, eps=0.1), functional.layer_norm(tx, (20,), eps=0.1)),
        (reference.rms_norm(x, w), functional.rms_norm(tx, (20,), tw, eps=1e-6)),
        (reference.gelu(x), functional.gelu(tx)),
        (reference.gelu(x, approximate="tanh"), functional.gelu(tx, approximate="tanh")),
        (reference.relu(x), functional.relu(tx)),
        (reference.silu(x), functional.silu(tx)),
    ]
    for got, want in pairs:
        close(got, want.numpy())


def test_linear_is_torchs(torch, rng):
    functional = torch.nn.functional
    x, w, b, r = doubles(rng, (2, 5, 12), (7, 12), (7,), (2, 5, 7))
    tx, tw, tb, tr = map(torch.from_numpy, (x, w, b, r))
    plain = functional.linear(tx, tw, tb)
    for name, activated in {
        None: plain,
        "relu": functional.relu(plain),
        "gelu": functional.gelu(plain),
        "gelu_tanh": functional.gelu(plain, approximate="tanh"),
        "silu": functional.silu(plain),
        "tanh": plain.tanh(),
    }.items():
        close(reference.linear(x, w, b, activation=name), activated.numpy())
        close(reference.linear(x, w, b, activation=name, residual=r), (activated + tr).numpy())
    close(reference.linear(x, w), functional.linear(tx, tw).numpy())


SCALINGS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64},
    "yarn": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16,
        "beta_slow": 2,
    },
    "yarn with a given attention factor": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
        "attention_factor": 1.25,
    },
    "yarn with mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "mscale": 0.7,
        "mscale_all_dim": 1.0,
        "truncate": False,
    },
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
}


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("length", [32, 300])
def test_rotary_embedding_is_transformers(torch, rng, name, length):
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    scaling = SCALINGS[name]
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=2,
        head_dim=32,
        max_position_embeddings=scaling.get("original_max_position_embeddings", 64),
        rope_parameters={"rope_theta": 1000.0, **scaling},
    )
    module = LlamaRotaryEmbedding(config)
    x = normal(rng, 1, 2, length, 32, dtype=np.float64)
    tx = torch.from_numpy(x)
    cos, sin = module(tx, torch.arange(length)[None])
    want, _ = apply_rotary_pos_emb(tx, tx, cos, sin)
    got = reference.rotary_embedding(x, base=1000.0, scaling=scaling)
    # transformers computes the frequencies and angles in float32: an angle of up to `length` is off by a few u of it
    assert_close(got, want.numpy(), bound=8 * length * 2.0**-24 * np.max(np.abs(x)) * 1.5)


def test_varlen_is_attention_of_each_sequence(rng):
    q, k, v = doubles(rng, (10, 4, 8), (12, 2, 8), (12, 2, 6))
    for options in ({}, {"is_causal": True}, {"window": (1, 2), "softcap": 3.0, "scale": 0.4}):
        got = reference.attention_varlen(q, k, v, [0, 3, 3, 10], [0, 5, 6, 12], enable_gqa=True, **options)
        for mine, theirs in ((slice(0, 3), slice(0, 5)), (slice(3, 10), slice(6, 12))):
            heads = (np.swapaxes(x, 0, 1) for x in (q[mine], k[theirs], v[theirs]))
            want = reference.scaled_dot_product_attention(*heads, enable_gqa=True, **options)
            close(got[mine], np.swapaxes(want, 0, 1))


# --- identities ------------------------------------------------------------------------------------------------------


def test_every_restriction_is_a_mask(rng):
    """is_causal, query_offset, window and key_lengths say what a boolean mask can say."""
    q, k, v = doubles(rng, (2, 3, 6, 4), (2, 3, 8, 4), (2, 3, 8, 4))
    i, j = np.arange(6)[:, None], np.arange(8)
    offset = np.array([1, -3])[:, None, None, None]
    lengths = np.array([8, 5])[:, None, None, None]
    at = i + offset
    cases = [
        ({"is_causal": True}, j <= i),
        ({"is_causal": True, "query_offset": 2}, j <= i + 2),
        ({"is_causal": True, "query_offset": [1, -3]}, j <= at),
        ({"window": (2, 1)}, (i - 2 <= j) & (j <= i + 1)),
        ({"window": (-1, 0), "query_offset": [1, -3]}, j <= at),
        ({"window": (0, -1), "query_offset": [1, -3]}, j >= at),
        ({"key_lengths": [8, 5]}, np.broadcast_to(j < lengths, (2, 1, 6, 8))),
        (
            {"is_causal": True, "window": (2, 3), "key_lengths": [8, 5], "query_offset": [1, -3]},
            (j <= at) & (at - 2 <= j) & (j < lengths),
        ),
    ]
    for options, mask in cases:
        got, weights = reference.scaled_dot_product_attention(q, k, v, return_weights=True, **options)
        want, expected = reference.scaled_dot_product_attention(q, k, v, mask, return_weights=True)
        close(got, want)
        close(weights, expected)
        assert np.all(weights[~np.broadcast_to(mask, weights.shape)] == 0)


def test_alibi_softcap_and_float_mask_in_that_order(rng):
    q, k, v = doubles(rng, (3, 5, 4), (3, 7, 4), (3, 7, 4))
    slopes, bias = reference.alibi_slopes(3), normal(rng, 5, 7, dtype=np.float64)
    distance = np.abs(np.arange(7) - (np.arange(5)[:, None] + 2))
    scores = 2.0 * np.tanh(q @ k.swapaxes(-1, -2) * 0.5 / 2.0) - slopes[:, None, None] * distance + bias
    weights = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    got = reference.scaled_dot_product_attention(
        q, k, v, bias, alibi_slopes=slopes, softcap=2.0, scale=0.5, query_offset=2, return_weights=True
    )
    close(got[1], weights)
    close(got[0], weights @ v)


def test_a_sink_is_a_key_whose_value_is_zero(rng):
    q, k, v = doubles(rng, (2, 5, 4), (2, 7, 4), (2, 7, 4))
    sinks = np.array([0.3, -np.inf])
    got, weights = reference.scaled_dot_product_attention(q, k, v, sinks=sinks, return_weights=True)
    powers = np.exp(q @ k.swapaxes(-1, -2) / 2)
    want = powers / (powers.sum(axis=-1, keepdims=True) + np.exp(sinks)[:, None, None])
    close(weights, want)
    close(got, want @ v)


def test_a_row_that_sees_no_key_is_zero(rng):
    q, k, v = doubles(rng, (2, 5, 4), (2, 7, 4), (2, 7, 4))
    mask = np.ones((5, 7), bool)
    mask[2] = False
    for form in (mask, np.where(mask, 0.0, -np.inf)):
        for sinks in (None, np.zeros(2)):
            got, weights = reference.scaled_dot_product_attention(q, k, v, form, sinks=sinks, return_weights=True)
            assert np.all(got[:, 2] == 0)
            assert np.all(weights[:, 2] == 0)
            assert np.all(got[:, :2] != 0)
    assert np.all(reference.scaled_dot_product_attention(q, k[:, :0], v[:, :0]) == 0)


def test_what_a_hidden_key_holds_is_never_read(rng):
    q, k, v = doubles(rng, (2, 5, 4), (2, 7, 4), (2, 7, 4))
    mask = np.ones((5, 7), bool)
    mask[:, 3] = False
    want = reference.scaled_dot_product_attention(q, k, v, mask)
    k[:, 3], v[:, 3] = np.nan, np.inf
    assert np.array_equal(reference.scaled_dot_product_attention(q, k, v, mask), want)
    mask[4, 3] = True
    got = reference.scaled_dot_product_attention(q, k, v, mask)
    assert np.array_equal(got[:, :4], want[:, :4])
    assert np.all(np.isnan(got[:, 4]))


def test_multi_head_attention_is_one_attention_per_slice(rng):
    q, k, v = doubles(rng, (2, 5, 12), (2, 7, 12), (2, 7, 6))
    got = reference.multi_head_attention(q, k, v, num_heads=3)
    for h in range(3):
        columns, out = slice(4 * h, 4 * h + 4), slice(2 * h, 2 * h + 2)
        close(got[..., out], reference.self_attention(q[..., columns], k[..., columns], v[..., out]))


def test_positional_encoding_layouts(rng):
    for d_model in (1, 6, 7):
        inter = reference.positional_encoding(5, d_model, offset=3)
        split = reference.positional_encoding(5, d_model, offset=3, layout="split")
        close(split, np.concatenate([inter[:, 0::2], inter[:, 1::2]], axis=1))
        close(inter, reference.positional_encoding(8, d_model)[3:])
        for column in range(d_model):
            angle = np.arange(3, 8) / 10000.0 ** (2 * (column // 2) / d_model)
            close(inter[:, column], np.cos(angle) if column % 2 else np.sin(angle))


def test_rotary_embedding_keeps_lengths_and_turns_by_differences(rng):
    x, y = doubles(rng, (2, 3, 5, 8), (2, 3, 5, 8))
    for interleaved in (False, True):
        turned = reference.rotary_embedding(x, interleaved=interleaved)
        close(np.square(turned).sum(-1), np.square(x).sum(-1))
        close(turned[..., 0, :], x[..., 0, :])
        shifted = [reference.rotary_embedding(z, np.arange(5) + 11, interleaved=interleaved) for z in (x, y)]
        close(
            np.sum(shifted[0] * shifted[1][..., ::-1, :], axis=-1),
            np.sum(turned * reference.rotary_embedding(y, interleaved=interleaved)[..., ::-1, :], axis=-1),
        )
    # the two layouts differ by a permutation of the columns
    apart = np.concatenate([x[..., 0::2], x[..., 1::2]], axis=-1)
    together = reference.rotary_embedding(x, interleaved=True)
    close(reference.rotary_embedding(apart), np.concatenate([together[..., 0::2], together[..., 1::2]], axis=-1))


def test_rotary_positions(rng):
    x = normal(rng, 2, 3, 5, 8, dtype=np.float64)
    per_batch = np.array([[0, 1, 2, 3, 4], [7, 0, 7, 1, 9]])
    got = reference.rotary_embedding(x, per_batch, rotary_dim=4)
    for b in range(2):
        close(got[b], reference.rotary_embedding(x[b], per_batch[b], rotary_dim=4))
    assert np.array_equal(got[..., 4:], x[..., 4:])


def test_rotary_frequencies_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="rope_type is 'longest'"):
        rotary_frequencies(8, base=1e4, scaling={"rope_type": "longest"}, length=0)
    with pytest.raises(ValueError, match="needs 'factor'"):
        rotary_frequencies(8, base=1e4, scaling={"type": "linear"}, length=0)
    with pytest.raises(ValueError, match="rotary_dim is 7"):
        rotary_frequencies(7, base=1e4, scaling=None, length=0)
    with pytest.raises(TypeError, match="scaling is a str"):
        rotary_frequencies(8, base=1e4, scaling="linear", length=0)


def test_alibi_slopes_are_the_papers():
    close(reference.alibi_slopes(8), 0.5 ** np.arange(1, 9))
    close(reference.alibi_slopes(6), [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])
    close(reference.alibi_slopes(1), [2.0**-8])


def test_gelu_in_the_tail():
    """Far below zero gelu is x times a tiny probability; 1 + erf would have lost it."""
    got = reference.gelu(np.array([-10.0, -30.0]))
    want = np.array([-10 * math.erfc(10 / math.sqrt(2)) / 2, -30 * math.erfc(30 / math.sqrt(2)) / 2])
    assert np.all(got < 0)
    assert np.array_equal(got, want)


def test_dtypes():
    for dtype in (np.float16, np.float32, np.float64):
        x = np.ones((2, 3, 4), dtype)
        assert reference.scaled_dot_product_attention(x, x, x).dtype == dtype
        assert reference.softmax(x).dtype == reference.gelu(x).dtype == reference.rotary_embedding(x).dtype == dtype
    assert reference.matmul([[1, 2]], [[True], [False]]).dtype == np.float64
    assert reference.linear(np.ones((2, 3), np.float32), np.ones((2, 3))).dtype == np.float64
    for wrong in (np.ones(3, complex), np.array(["a"]), np.array([None])):
        with pytest.raises(TypeError):
            reference.softmax(wrong)
