"""Bad input: TypeError for kind, ValueError for value, and a message that names the argument and what came."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import tfcore
from arrays import normal, read_only
from numpy.lib.stride_tricks import as_strided

RNG = np.random.default_rng(7)
Q, K, V = (normal(RNG, 2, 4, n, 8) for n in (5, 7, 7))
PACKED = normal(RNG, 9, 4, 8)
X, WEIGHT, BIAS = normal(RNG, 6, 8), normal(RNG, 3, 8), normal(RNG, 3)
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8}
LONGROPE = {"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 1, "short_factor": [1.0] * 4}


def attend(**changes):
    return tfcore.scaled_dot_product_attention(**{"query": Q, "key": K, "value": V, **changes})


def varlen(starts=(0, 4, 9), **changes):
    arguments = {"query": PACKED, "key": PACKED, "value": PACKED, "cu_seqlens_q": starts, **changes}
    return tfcore.attention_varlen(**arguments)


def linear(**changes):
    return tfcore.linear(**{"x": X, "weight": WEIGHT, "bias": BIAS, **changes})


def packed(**changes):
    return tfcore.PackedLinear(WEIGHT, BIAS)(**{"x": X, **changes})


def feed_forward(**changes):
    arguments = {"x": X, "w1": normal(RNG, 12, 8), "b1": None, "w2": normal(RNG, 8, 12), "b2": None, **changes}
    return tfcore.feed_forward(**arguments)


def encoding(seq_len=4, d_model=6, **changes):
    return tfcore.positional_encoding(seq_len, d_model, **changes)


# (what is called, arguments, error, what the message holds: the argument's name first)
BAD = [
    # attention: shapes
    (attend, {"query": Q[0, 0, 0]}, ValueError, ["query", "(8,)"]),
    (attend, {"query": np.float32(1)}, ValueError, ["query", "()"]),
    (attend, {"key": K[..., :5]}, ValueError, ["key", "(2, 4, 7, 5)", "8"]),
    (attend, {"value": V[..., :6, :]}, ValueError, ["value", "(2, 4, 6, 8)", "7"]),
    (attend, {"key": K[:, :2], "value": V[:, :2]}, ValueError, ["key", "(2, 2, 7, 8)", "4"]),
    (attend, {"key": K[:, :3], "value": V[:, :3], "enable_gqa": True}, ValueError, ["key", "(2, 3, 7, 8)", "4"]),
    (attend, {"key": K[:, :0], "value": V[:, :0], "enable_gqa": True}, ValueError, ["key", "(2, 0, 7, 8)"]),
    (attend, {"value": V[:, :2], "enable_gqa": True}, ValueError, ["value", "(2, 2, 7, 8)"]),
    (attend, {"key": K[0, 0]}, ValueError, ["key", "(7, 8)"]),
    (attend, {"query": np.stack([Q] * 3, 1), "key": np.stack([K] * 2, 1), "value": np.stack([V] * 2, 1)}, ValueError,
     ["key", "(2, 2)", "(2, 3)"]),
    # attention: restrictions
    (attend, {"attn_mask": np.ones((5, 6), bool)}, ValueError, ["attn_mask", "(5, 6)", "(2, 4, 5, 7)"]),
    (attend, {"attn_mask": np.ones((3, 1, 5, 7), bool)}, ValueError, ["attn_mask", "(3, 1, 5, 7)"]),
    (attend, {"attn_mask": np.ones((1, 2, 4, 5, 7), bool)}, ValueError, ["attn_mask", "(1, 2, 4, 5, 7)"]),
    (attend, {"attn_mask": np.ones((5, 7), np.int64)}, TypeError, ["attn_mask", "int64", "bool"]),
    (attend, {"attn_mask": np.ones((5, 7), complex)}, TypeError, ["attn_mask", "complex128"]),
    (attend, {"attn_mask": "causal"}, TypeError, ["attn_mask"]),
    (attend, {"is_causal": 1}, TypeError, ["is_causal", "int"]),
    (attend, {"is_causal": None}, TypeError, ["is_causal", "None"]),
    (attend, {"enable_gqa": "yes"}, TypeError, ["enable_gqa", "str"]),
    (attend, {"return_weights": 0}, TypeError, ["return_weights", "int"]),
    (attend, {"query_offset": 1.5}, TypeError, ["query_offset", "float64"]),
    (attend, {"query_offset": [1, 2, 3]}, ValueError, ["query_offset", "3", "2"]),
    (attend, {"query_offset": None}, TypeError, ["query_offset", "None"]),
    (attend, {"key_lengths": [7.0, 3.0]}, TypeError, ["key_lengths", "float64"]),
    (attend, {"key_lengths": [7, 3, 1]}, ValueError, ["key_lengths", "3", "2"]),
    (attend, {"key_lengths": [[7, 3]]}, ValueError, ["key_lengths", "(1, 2)", "(2,)"]),
    (attend, {"query_offset": 2**70}, ValueError, ["query_offset", "1180591620717411303424", "2**63"]),
    (attend, {"query_offset": True}, TypeError, ["query_offset", "bool"]),
    (attend, {"scale": 10**400}, ValueError, ["scale", "float64"]),
    (attend, {"key_lengths": [7, 8]}, ValueError, ["key_lengths", "8", "7"]),
    (attend, {"key_lengths": [-1, 7]}, ValueError, ["key_lengths", "-1"]),
    (attend, {"key_lengths": np.array([7, 2**64 - 1], np.uint64)}, ValueError, ["key_lengths", "18446744073709551615"]),
    (attend, {"query_offset": 2**63}, ValueError, ["query_offset", "9223372036854775808"]),
    (attend, {"window": np.array(3)}, TypeError, ["window", "array(3)", "pair"]),
    (attend, {"window": (2**70, 2)}, ValueError, ["window", "1180591620717411303424", "2**63"]),
    (attend, {"window": (-2, 1)}, ValueError, ["window", "-2"]),
    (attend, {"window": (1, 2, 3)}, TypeError, ["window", "(1, 2, 3)"]),
    (attend, {"window": 4}, TypeError, ["window", "4"]),
    (attend, {"window": (1.0, 2)}, TypeError, ["window", "float"]),
    (attend, {"scale": "small"}, TypeError, ["scale", "str"]),
    (attend, {"scale": np.nan}, ValueError, ["scale", "nan"]),
    (attend, {"scale": np.inf}, ValueError, ["scale", "inf"]),
    (attend, {"softcap": -1.0}, ValueError, ["softcap", "-1.0"]),
    (attend, {"softcap": None}, TypeError, ["softcap", "None"]),
    (attend, {"alibi_slopes": np.ones(3)}, ValueError, ["alibi_slopes", "(3,)", "4"]),
    (attend, {"alibi_slopes": np.ones((2, 4))}, ValueError, ["alibi_slopes", "(2, 4)"]),
    (attend, {"sinks": np.ones(5)}, ValueError, ["sinks", "(5,)", "4"]),
    (attend, {"sinks": ["a"] * 4}, TypeError, ["sinks", "<U1"]),
    # packed sequences
    (varlen, {"query": PACKED[0]}, ValueError, ["query", "(4, 8)"]),
    (varlen, {"starts": [0, 5, 4, 9]}, ValueError, ["cu_seqlens_q", "5", "4"]),
    (varlen, {"starts": [0, 4, 10]}, ValueError, ["cu_seqlens_q", "10", "9"]),
    (varlen, {"starts": [0, 4, 8]}, ValueError, ["cu_seqlens_q", "8", "9"]),
    (varlen, {"starts": [1, 4, 9]}, ValueError, ["cu_seqlens_q", "0"]),
    (varlen, {"starts": []}, ValueError, ["cu_seqlens_q", "empty"]),
    (varlen, {"starts": [0.0, 9.0]}, TypeError, ["cu_seqlens_q", "float64"]),
    (varlen, {"starts": [[0, 9]]}, ValueError, ["cu_seqlens_q", "(1, 2)"]),
    (varlen, {"starts": 9}, ValueError, ["cu_seqlens_q", "()"]),
    (varlen, {"starts": None}, TypeError, ["cu_seqlens_q", "None"]),
    (varlen, {"cu_seqlens_k": [0, 9]}, ValueError, ["cu_seqlens_k", "2", "3"]),
    (varlen, {"cu_seqlens_k": [0, 10, 9]}, ValueError, ["cu_seqlens_k", "10", "9"]),
    (varlen, {"key": PACKED[:5], "value": PACKED[:5]}, ValueError, ["key", "(5, 4, 8)"]),
    (varlen, {"key": PACKED[:, :3], "value": PACKED[:, :3]}, ValueError, ["key", "(9, 3, 8)", "4"]),
    (varlen, {"value": PACKED[:, :3]}, ValueError, ["value", "(9, 3, 8)"]),
    (varlen, {"key": PACKED[..., :3]}, ValueError, ["key", "(9, 4, 3)", "8"]),
    # the short forms
    (tfcore.self_attention, {"query": X[0], "key": X, "value": X}, ValueError, ["query", "(8,)"]),
    (tfcore.self_attention, {"query": X, "key": X[:, :5], "value": X}, ValueError, ["key", "(6, 5)", "8"]),
    (tfcore.self_attention, {"query": X, "key": X, "value": X[:4]}, ValueError, ["value", "(4, 8)", "6"]),
    (tfcore.self_attention, {"query": X, "key": np.ones((2, 6, 8)), "value": np.ones((3, 6, 8))}, ValueError,
     ["value", "(3,)", "(2,)"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X, "num_heads": 3}, ValueError,
     ["query", "(6, 8)", "num_heads", "3"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X[:, :6], "num_heads": 4}, ValueError,
     ["value", "(6, 6)", "num_heads", "4"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X, "num_heads": 0}, ValueError, ["num_heads", "0"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X, "num_heads": -8}, ValueError, ["num_heads", "-8"]),
    (tfcore.multi_head_attention, {"query": X[:, :0], "key": X[:, :0], "value": X[:, :0], "num_heads": 2**62},
     ValueError, ["num_heads", "4611686018427387904"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X, "num_heads": 2.0}, TypeError,
     ["num_heads", "float"]),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X, "num_heads": True}, TypeError,
     ["num_heads", "bool"]),
    # positions
    (encoding, {"seq_len": -1}, ValueError, ["seq_len", "-1"]),
    (encoding, {"seq_len": 2.0}, TypeError, ["seq_len", "float"]),
    (encoding, {"seq_len": "4"}, TypeError, ["seq_len", "str"]),
    (encoding, {"seq_len": None}, TypeError, ["seq_len", "None"]),
    (encoding, {"seq_len": True}, TypeError, ["seq_len", "bool"]),
    (encoding, {"seq_len": 2**70}, ValueError, ["seq_len", str(2**70)]),
    (encoding, {"d_model": -3}, ValueError, ["d_model", "-3"]),
    (encoding, {"d_model": np.float64(4)}, TypeError, ["d_model", "float64"]),
    (encoding, {"base": 0.0}, ValueError, ["base", "0.0"]),
    (encoding, {"base": np.nan}, ValueError, ["base", "nan"]),
    (encoding, {"base": "10000"}, TypeError, ["base", "str"]),
    (encoding, {"offset": 0.5}, TypeError, ["offset", "float"]),
    (encoding, {"layout": "halves"}, ValueError, ["layout", "halves", "interleaved", "split"]),
    (encoding, {"layout": 0}, TypeError, ["layout", "int"]),
    (encoding, {"frequencies": "cubic"}, ValueError, ["frequencies", "cubic", "geometric", "linear"]),
    (encoding, {"dtype": np.int32}, TypeError, ["dtype", "int32"]),
    (encoding, {"dtype": complex}, TypeError, ["dtype", "complex"]),
    (tfcore.rotary_embedding, {"x": X[0]}, ValueError, ["x", "(8,)"]),
    (tfcore.rotary_embedding, {"x": X[:, :7]}, ValueError, ["7"]),
    (tfcore.rotary_embedding, {"x": X, "rotary_dim": 10}, ValueError, ["rotary_dim", "10", "8"]),
    (tfcore.rotary_embedding, {"x": X, "rotary_dim": 3}, ValueError, ["rotary_dim", "3"]),
    (tfcore.rotary_embedding, {"x": X, "rotary_dim": -2}, ValueError, ["rotary_dim", "-2"]),
    (tfcore.rotary_embedding, {"x": X, "rotary_dim": 4.0}, TypeError, ["rotary_dim", "float"]),
    (tfcore.rotary_embedding, {"x": X, "positions": np.arange(5)}, ValueError, ["positions", "(5,)", "(6,)"]),
    (tfcore.rotary_embedding, {"x": X, "positions": np.arange(6.0)}, TypeError, ["positions", "float64"]),
    (tfcore.rotary_embedding, {"x": X, "base": -1.0}, ValueError, ["base", "-1.0"]),
    (tfcore.rotary_embedding, {"x": X, "base": "a"}, TypeError, ["base", "str"]),
    (tfcore.rotary_embedding, {"x": X, "base": np.ones(2)}, TypeError, ["base", "ndarray"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": {"type": "linear", "factor": None}}, TypeError,
     ["scaling", "'factor'", "NoneType"]),
    (tfcore.rotary_embedding, {"x": Q[0], "positions": np.ones((3, 5), int)}, ValueError, ["positions", "(3, 5)"]),
    (tfcore.rotary_embedding, {"x": np.ones((1, 8, 5, 4)), "positions": np.ones((8, 5), int)}, ValueError,
     ["positions", "(8, 5)", "(B, L)", "(1, 5)"]),
    (encoding, {"seq_len": np.array([3])}, TypeError, ["seq_len", "ndarray", "integer"]),
    (encoding, {"dtype": "nonsense"}, TypeError, ["dtype", "nonsense", "float32"]),
    (encoding, {"base": True}, TypeError, ["base", "bool", "number"]),
    (tfcore.rotary_embedding, {"x": X, "interleaved": 1}, TypeError, ["interleaved", "int"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": "yarn"}, TypeError, ["scaling", "str"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": {"rope_type": "wide"}}, ValueError, ["rope_type", "wide", "yarn"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": {"rope_type": "linear"}}, ValueError, ["scaling", "factor"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": {"rope_type": ["linear"]}}, ValueError, ["rope_type", "['linear']"]),
    (tfcore.rotary_embedding, {"x": X, "base": np.inf}, ValueError, ["base is inf", "positive"]),
    (tfcore.rotary_embedding, {"x": X, "base": 1, "scaling": YARN}, ValueError, ["base is 1", "yarn"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": YARN | {"beta_fast": -1}}, ValueError, ["'beta_fast' is -1"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": YARN | {"attention_factor": "x"}}, TypeError,
     ["'attention_factor'", "str"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": LONGROPE}, ValueError,
     ["'original_max_position_embeddings' is 1", "above 1"]),
    (tfcore.rotary_embedding, {"x": X, "scaling": LONGROPE | {"factor": 1.0, "long_factor": ["a"] * 4}}, ValueError,
     ["long_factor", "4 positive numbers"]),
    (tfcore.gelu, {"x": [[1.0], [1.0, 2.0]]}, ValueError, ["gelu", "x is no array"]),
    (tfcore.softmax, {"x": [[1.0], [1.0, 2.0]], "axis": 0}, ValueError, ["softmax", "x is no array"]),
    (tfcore.rotary_embedding, {"x": [[1.0], [1.0, 2.0]]}, ValueError, ["rotary_embedding", "x is no array"]),
    (tfcore.alibi_slopes, {"num_heads": 0}, ValueError, ["num_heads", "0"]),
    (tfcore.alibi_slopes, {"num_heads": -4}, ValueError, ["num_heads", "-4"]),
    (tfcore.alibi_slopes, {"num_heads": 8.0}, TypeError, ["num_heads", "float"]),
    # products
    (tfcore.matmul, {"a": X, "b": X}, ValueError, ["b", "(6, 8)", "8"]),
    (tfcore.matmul, {"a": np.float32(2), "b": X}, ValueError, ["a", "()"]),
    (tfcore.matmul, {"a": X, "b": 3.0}, ValueError, ["b", "()"]),
    (tfcore.matmul, {"a": np.ones((2, 3, 4)), "b": np.ones((3, 4, 5))}, ValueError, ["b", "(3, 4, 5)", "(2, 3, 4)"]),
    (tfcore.matmul, {"a": X, "b": None}, TypeError, ["b", "None"]),
    (linear, {"x": X[:, :7]}, ValueError, ["x", "(6, 7)", "8"]),
    (linear, {"x": np.float32(1)}, ValueError, ["x", "()"]),
    (linear, {"weight": WEIGHT[0]}, ValueError, ["weight", "(8,)", "(N, K)"]),
    (linear, {"weight": np.ones((1, 3, 8))}, ValueError, ["weight", "(1, 3, 8)"]),
    (linear, {"bias": np.ones(4)}, ValueError, ["bias", "(4,)", "3"]),
    (linear, {"bias": np.ones((3, 1))}, ValueError, ["bias", "(3, 1)"]),
    (linear, {"residual": np.ones((6, 4))}, ValueError, ["residual", "(6, 4)", "(6, 3)"]),
    (linear, {"activation": "swish"}, ValueError, ["activation", "swish", "silu"]),
    (linear, {"activation": 3}, TypeError, ["activation", "int"]),
    (packed, {"x": X[:, :7]}, ValueError, ["x", "(6, 7)", "8"]),
    (packed, {"activation": "swish"}, ValueError, ["activation", "swish"]),
    (packed, {"residual": X}, ValueError, ["residual", "(6, 8)", "(6, 3)"]),
    (tfcore.PackedLinear, {"weight": WEIGHT[0]}, ValueError, ["weight", "(8,)"]),
    (tfcore.PackedLinear, {"weight": WEIGHT, "bias": np.ones(8)}, ValueError, ["bias", "(8,)", "3"]),
    (tfcore.PackedLinear, {"weight": "weights"}, TypeError, ["weight"]),
    (feed_forward, {"w1": np.ones((12, 7))}, ValueError, ["(12, 7)", "8"]),
    (feed_forward, {"w2": np.ones((8, 11))}, ValueError, ["(8, 11)", "12"]),
    (feed_forward, {"w2": np.ones((5, 12))}, ValueError, ["w2", "(5, 12)", "8"]),
    (feed_forward, {"b1": np.ones(8)}, ValueError, ["b1", "(8,)", "12"]),
    (feed_forward, {"activation": "swish"}, ValueError, ["activation", "swish"]),
    # rows
    (tfcore.softmax, {"x": X, "axis": 2}, ValueError, ["axis", "2"]),
    (tfcore.softmax, {"x": X, "axis": -3}, ValueError, ["axis", "-3"]),
    (tfcore.log_softmax, {"x": X, "axis": -3}, ValueError, ["log_softmax", "axis", "-3"]),
    (tfcore.softmax, {"x": X, "axis": 1.0}, TypeError, ["axis|float"]),
    (tfcore.softmax, {"x": 3.0}, ValueError, ["x|axis"]),
    (tfcore.softmax, {"x": 3.0, "axis": 0}, ValueError, ["x", "()"]),
    (tfcore.softmax, {"x": None, "axis": 0}, TypeError, ["x", "None|object"]),
    (tfcore.softmax, {"x": X, "axis": -1.0}, TypeError, ["axis", "float"]),
    (tfcore.softmax, {"x": X, "axis": np.array([-1, 0])}, TypeError, ["axis", "ndarray"]),
    (tfcore.layer_norm, {"x": 3.0}, ValueError, ["x", "()"]),
    (tfcore.layer_norm, {"x": X, "weight": BIAS}, ValueError, ["weight", "(3,)", "8"]),
    (tfcore.layer_norm, {"x": X, "bias": X}, ValueError, ["bias", "(6, 8)", "8"]),
    (tfcore.layer_norm, {"x": X, "eps": -1e-5}, ValueError, ["eps", "-1e-05"]),
    (tfcore.layer_norm, {"x": X, "eps": np.nan}, ValueError, ["eps", "nan"]),
    (tfcore.layer_norm, {"x": X, "eps": "small"}, TypeError, ["eps", "str"]),
    (tfcore.rms_norm, {"x": X, "weight": BIAS}, ValueError, ["weight", "(3,)", "8"]),
    (tfcore.rms_norm, {"x": X, "eps": None}, TypeError, ["eps", "None"]),
    (tfcore.gelu, {"x": X, "approximate": "erf"}, ValueError, ["approximate", "erf", "tanh"]),
    (tfcore.gelu, {"x": X, "approximate": None}, TypeError, ["approximate", "None"]),
    (tfcore.gelu, {"x": X, "approximate": "\ud800"}, ValueError, ["approximate", r"'\ud800'"]),
]  # fmt: skip


def name_of(case):
    call, arguments, *_ = case
    return f"{getattr(call, '__name__', call)}-{'-'.join(arguments)}"


def test_an_integers_own_error_is_the_callers_to_see():
    class Unwilling:
        def __index__(self):
            raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        encoding(Unwilling())


@pytest.mark.parametrize("case", BAD, ids=name_of)
def test_bad_input(case):
    call, arguments, error, parts = case
    with pytest.raises(error) as caught:
        call(**arguments)
    message = str(caught.value)
    for part in parts:
        found = any(p in message for p in part.split("|")) if "|" in part else part in message
        assert found, f"{message!r} does not mention {part!r}"


# --- dtypes ----------------------------------------------------------------------------------------------------------

FOREIGN = {
    "complex": np.ones((6, 8), complex),
    "object": np.full((6, 8), None),
    "string": np.full((6, 8), "a"),
    "date": np.zeros((6, 8), "datetime64[s]"),
    "record": np.zeros((6, 8), [("a", np.float32)]),
}
ARRAY_ARGUMENTS = [
    (tfcore.scaled_dot_product_attention, {"query": X, "key": X, "value": X}),
    (tfcore.attention_varlen, {"query": PACKED, "key": PACKED, "value": PACKED}),
    (tfcore.self_attention, {"query": X, "key": X, "value": X}),
    (tfcore.multi_head_attention, {"query": X, "key": X, "value": X}),
    (tfcore.rotary_embedding, {"x": X}),
    (tfcore.matmul, {"a": X, "b": X}),
    (tfcore.linear, {"x": X, "weight": X, "bias": X, "residual": X}),
    (tfcore.PackedLinear, {"weight": X, "bias": X}),
    (tfcore.softmax, {"x": X}),
    (tfcore.layer_norm, {"x": X, "weight": X, "bias": X}),
    (tfcore.rms_norm, {"x": X, "weight": X}),
    (tfcore.gelu, {"x": X}),
    (tfcore.relu, {"x": X}),
    (tfcore.silu, {"x": X}),
]
NORMS = (tfcore.layer_norm, tfcore.rms_norm)
EACH = [(call, arguments, name) for call, arguments in ARRAY_ARGUMENTS for name in arguments]


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(("call", "arguments", "name"), EACH, ids=lambda v: getattr(v, "__name__", None))
def test_foreign_dtypes(call, arguments, name, kind):
    more = {"cu_seqlens_q": [0, 9]} if call is tfcore.attention_varlen else {}
    bad = FOREIGN[kind]
    with pytest.raises(TypeError, match=rf"\b{name}\b.*{re.escape(str(bad.dtype))}"):
        call(**{**arguments, name: bad}, **more)


@pytest.mark.parametrize(("call", "arguments", "name"), EACH, ids=lambda v: getattr(v, "__name__", None))
def test_things_that_are_no_array(call, arguments, name):
    more = {"cu_seqlens_q": [0, 9]} if call is tfcore.attention_varlen else {}
    optional = name in ("bias", "residual") or (call in NORMS and name == "weight")
    for bad in (object(), "text", {1: 2}, *([] if optional else [None])):
        with pytest.raises(TypeError):
            call(**{**arguments, name: bad}, **more)
    with pytest.raises(ValueError, match="inhomogeneous"):
        call(**{**arguments, name: [[1.0, 2.0], [3.0]]}, **more)


def test_wider_than_double_is_refused():
    if np.dtype(np.longdouble) != np.float64:
        with pytest.raises(TypeError, match=r"float128|longdouble"):
            tfcore.softmax(X.astype(np.longdouble))


def test_unknown_arguments():
    for call, arguments in ARRAY_ARGUMENTS:
        with pytest.raises(TypeError, match="colour"):
            call(**arguments, colour="red")
    with pytest.raises(TypeError, match="positional"):
        tfcore.scaled_dot_product_attention(Q, K, V, None, True)
    with pytest.raises(TypeError, match="positional"):
        tfcore.layer_norm(X, None, None, 1e-5)
    with pytest.raises(TypeError, match="query"):
        tfcore.scaled_dot_product_attention()


# --- out -------------------------------------------------------------------------------------------------------------

SQUARE = normal(RNG, 8, 8)
CASES_WITH_OUT = {
    "scaled_dot_product_attention": lambda x, out: tfcore.scaled_dot_product_attention(x, SQUARE, SQUARE, out=out),
    "scaled_dot_product_attention, key": lambda x, out: tfcore.scaled_dot_product_attention(SQUARE, x, SQUARE, out=out),
    "scaled_dot_product_attention, mask": lambda x, out: tfcore.scaled_dot_product_attention(
        SQUARE, SQUARE, SQUARE, x, out=out
    ),
    "matmul": lambda x, out: tfcore.matmul(x, SQUARE, out=out),
    "matmul, b": lambda x, out: tfcore.matmul(SQUARE, x, out=out),
    "linear": lambda x, out: tfcore.linear(x, SQUARE, out=out),
    "linear, weight": lambda x, out: tfcore.linear(SQUARE, x, out=out),
    "linear, residual": lambda x, out: tfcore.linear(SQUARE, SQUARE, residual=x, out=out),
    "PackedLinear": lambda x, out: tfcore.PackedLinear(SQUARE)(x, out=out),
    "softmax": lambda x, out: tfcore.softmax(x, out=out),
    "softmax, axis 0": lambda x, out: tfcore.softmax(x, 0, out=out),
    "log_softmax": lambda x, out: tfcore.log_softmax(x, out=out),
    "log_softmax, axis 0": lambda x, out: tfcore.log_softmax(x, 0, out=out),
    "layer_norm": lambda x, out: tfcore.layer_norm(x, out=out),
    "rms_norm": lambda x, out: tfcore.rms_norm(x, out=out),
    "rotary_embedding": lambda x, out: tfcore.rotary_embedding(x, out=out),
    "gelu": lambda x, out: tfcore.gelu(x, out=out),
    "relu": lambda x, out: tfcore.relu(x, out=out),
    "silu": lambda x, out: tfcore.silu(x, out=out),
}
OTHERS_WITH_OUT = {
    "attention_varlen": lambda out: tfcore.attention_varlen(PACKED, PACKED, PACKED, [0, 9], out=out),
    "positional_encoding": lambda out: tfcore.positional_encoding(8, 8, dtype=np.float32, out=out),
}


@pytest.mark.parametrize("name", [*CASES_WITH_OUT, *OTHERS_WITH_OUT])
def test_bad_out(name):
    if name in CASES_WITH_OUT:
        call, shape = lambda out: CASES_WITH_OUT[name](SQUARE, out), SQUARE.shape
    else:
        call = OTHERS_WITH_OUT[name]
        shape = call(None).shape
    good = np.zeros(shape, np.float32)
    assert call(good) is good
    longer = (*shape[:-1], shape[-1] + 1)
    for wrong in (np.zeros(longer, np.float32), np.zeros((1, *shape), np.float32), np.zeros(shape[:-1], np.float32)):
        with pytest.raises(ValueError, match="out") as caught:
            call(wrong)
        assert str(wrong.shape) in str(caught.value)
        assert str(shape) in str(caught.value)
    for dtype in (np.float64, np.float16, np.int32, complex, object):
        with pytest.raises(TypeError, match=rf"out.*{np.dtype(dtype)}.*float32"):
            call(np.zeros(shape, dtype))
    with pytest.raises(ValueError, match=r"out.*read-only"):
        call(read_only(good))
    for kind in (good.tolist(), "out", 3):
        with pytest.raises(TypeError, match=rf"out.*{type(kind).__name__}"):
            call(kind)


IN_PLACE = {"rotary_embedding", "layer_norm", "rms_norm", "gelu", "relu", "silu"}
IN_PLACE |= {"softmax", "softmax, axis 0", "log_softmax", "log_softmax, axis 0"}


@pytest.mark.parametrize("name", CASES_WITH_OUT)
def test_out_that_overlaps_an_input(name):
    """The input itself, a part of it, and one row of it; side by side in one buffer is no overlap."""
    call = CASES_WITH_OUT[name]
    for x_at, out_at, overlaps in [
        (slice(0, 8), slice(0, 8), name not in IN_PLACE),
        (slice(0, 8), slice(7, 15), True),
        (slice(4, 12), slice(0, 8), True),
        (slice(0, 8), slice(8, 16), False),
        (slice(0, 16, 2), slice(1, 17, 2), False),
        (slice(0, 16, 2), slice(0, 8), True),
    ]:
        buffer = np.ones((17, 8), np.float32)
        buffer[x_at] = SQUARE
        before = buffer.copy()
        if overlaps:
            with pytest.raises(ValueError, match="out shares memory with"):
                call(buffer[x_at], buffer[out_at])
            assert np.array_equal(buffer, before), "written in spite of the error"
        else:
            want = call(SQUARE.copy(), None)
            assert np.array_equal(call(buffer[x_at], buffer[out_at]), want)


def test_out_that_cannot_be_told_from_an_input_in_time():
    """Strides for which an exact answer is a search of a minute."""
    base = np.zeros(192_163_377, np.float32)
    x, out = (
        as_strided(part, (200, 200, 200), tuple(4 * stride for stride in strides))
        for part, strides in ((base, (36674, 61119, 85569)), (base[16_005_756:], (12223, 12224, 1)))
    )
    with pytest.raises(ValueError, match="out shares memory with x"):
        tfcore.relu(x, out=out)


# --- runtime ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_bad_thread_counts(bad, error):
    before = tfcore.get_num_threads()
    with pytest.raises(error, match=re.escape(str(bad)) if error is ValueError else type(bad).__name__):
        tfcore.set_num_threads(bad)
    with pytest.raises(error), tfcore.num_threads(bad):
        pass
    assert tfcore.get_num_threads() == before


def test_unknown_instruction_sets_are_answered_with_the_known():
    before = tfcore.isa()
    with pytest.raises(ValueError, match="avx9") as caught, tfcore.use_isa("avx9"):
        pass
    assert all(name in str(caught.value) for name in tfcore.available_isas())
    with pytest.raises(TypeError), tfcore.use_isa(3):
        pass
    assert tfcore.isa() == before


def test_an_error_leaves_everything_usable():
    want = attend()
    for call, arguments, *_ in 2 * BAD:
        with contextlib.suppress(TypeError, ValueError):
            call(**arguments)
    assert np.array_equal(attend(), want)


BEYOND = [*(("scale", scale) for scale in (1e300, 3e38)), *(("softcap", cap) for cap in (1e300, 3e38, 1e-40, 1e-60))]


@pytest.mark.parametrize(("name", "value"), BEYOND)
def test_numbers_beyond_the_dtype(name, value):
    x = np.ones((1, 2, 4), np.float32)
    with pytest.raises(ValueError, match=f"{name} is {re.escape(str(value))}"):
        tfcore.scaled_dot_product_attention(x, x, x, **{name: value})
    assert np.isfinite(tfcore.scaled_dot_product_attention(*[x.astype(np.float64)] * 3, **{name: value})).all()


def test_arrays_that_broadcast_beyond_all_addresses():
    one = np.float32(1)
    query, key = np.broadcast_to(one, (2**31, 1, 1, 1, 1)), np.broadcast_to(one, (1, 2**32, 1, 1, 1))
    with pytest.raises(ValueError, match="broadcast to too many elements"):
        tfcore.scaled_dot_product_attention(query, key, key, query_offset=3)


@pytest.mark.parametrize(("dtype", "slope"), [(np.float32, 3e38), (np.float64, 1.7e308)])
def test_slopes_beyond_the_dtype_in_base_2(isa, dtype, slope):
    x = np.ones((1, 2, 5, 4), dtype)
    out = tfcore.scaled_dot_product_attention(x, x, x, alibi_slopes=np.full(2, slope, dtype))
    assert np.array_equal(out, x)


def test_a_compiled_operator_counts_its_arguments():
    with pytest.raises(TypeError, match="got 1 arguments, expected 3"):
        tfcore._core.matmul(np.ones((2, 2)))
