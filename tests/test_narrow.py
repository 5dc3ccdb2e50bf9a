"""Weights that stay as their file stores them: the bits of a model whose weights were widened beforehand."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tfcore
from closeness import assert_same_bits
from gguf_files import BLOCKS
from tfcore import _core
from tfcore.models.architecture import Block, Embeddings, StackSpec
from tfcore.models.packing import PackedTokens
from tfcore.models.stack import Stack

ROWS = [1, 2, 3, 4, 5, 6, 7, 12, 13, 30, 48, 49, 97, 150]
WORDS = 37  # no multiple of a panel's 16 columns


def stored_rows(kind: str, rows: int, columns: int, rng) -> np.ndarray:
    """Bytes (rows, …) that make numbers below one, some of them with negative or no scales."""
    numbers, size = BLOCKS[kind]
    if kind in ("F16", "BF16"):
        values = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        words = values.astype("<f2").view("<u2") if kind == "F16" else (values.view(np.uint32) >> 16).astype("<u2")
        return words.view(np.uint8)
    blocks = rng.integers(0, 256, (rows * columns // numbers, size), np.uint8)
    at, halves = (208, 1) if kind == "Q6_K" else (0, 1 if kind in ("Q8_0", "Q4_0", "Q5_0") else 2)
    scales = rng.standard_normal((len(blocks), halves)) * 2.0 ** (-12 if numbers == 32 else -16)
    scales[rng.random(len(blocks)) < 0.1] = 0
    blocks[:, at : at + 2 * halves] = scales.astype("<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def inner_width(kind: str) -> int:
    """One that the format's blocks divide, and panels only where they must."""
    return {1: 50, 32: 96, 256: 512}[BLOCKS[kind][0]]


def description(kind: str) -> StackSpec:
    block = Block(
        heads=2,
        key_heads=1,
        head_size=128,
        inner=inner_width(kind),
        norm="rms",
        placement="pre",
        eps=1e-5,
        activation="silu",
        gated=True,
        causal=True,
    )
    plain = Block(**{**vars(block), "gated": False, "activation": "gelu", "norm": "rms"})
    return StackSpec(256, Embeddings(WORDS, 256), (block, plain), final_norm=True)


class Watched(dict):
    """What was asked for by name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getitem__(self, name):
        self.asked.append(name)
        return super().__getitem__(name)


class Weights:
    """Of a stack with a head: matrices as stored, everything widened."""

    def __init__(self, kind: str, kinds: dict[str, str] | None = None) -> None:
        rng = np.random.default_rng(len(kind))
        self.data = description(kind)
        shapes = {"head.weight": (WORDS, 256)} | self.data.shapes()
        del shapes["embeddings.word.weight"]  # the head's rows serve for both
        self.rows, self.wide = {}, Watched()
        for name, shape in shapes.items():
            own = (kinds or {}).get(name.split(".")[-2], kind)
            if len(shape) == 2:
                self.rows[name] = (own, stored_rows(own, *shape, rng))
                self.wide[name] = _core.dequantize(own, self.rows[name][1].reshape(-1), np.prod(shape)).reshape(shape)
            else:
                self.wide[name] = (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)

    def stack(self, *, as_stored: bool) -> Stack:
        return Stack(self.data, self.wide, self.rows.get if as_stored else None)


def states_and_logits(stack: Stack, rows: int) -> list[np.ndarray]:
    """The words' vectors, every block's states, and the logits."""
    tokens = PackedTokens.from_texts([np.arange(rows) % WORDS], [0])
    states = stack.run(tokens, output_hidden_states=True).states
    return [*states, stack.core.logits(states[-1])]


@pytest.mark.parametrize("kind", BLOCKS)
def test_stored_weights_give_the_bits_of_wide_ones(machine, kind):
    weights = Weights(kind)
    narrow, wide = weights.stack(as_stored=True), weights.stack(as_stored=False)
    for rows in ROWS:
        for got, want in zip(states_and_logits(narrow, rows), states_and_logits(wide, rows), strict=True):
            assert np.isfinite(want).all()
            assert_same_bits(got, want, f"{kind}, {rows} rows")


@pytest.mark.parametrize("kind", ["Q4_1", "Q6_K", "BF16"])
def test_a_row_has_the_same_bits_in_any_company(machine, kind):
    stack = Weights(kind).stack(as_stored=True)
    x = np.random.default_rng(0).standard_normal((150, 256)).astype(np.float32)
    want = stack.core.logits(x)
    for rows in ROWS:
        assert_same_bits(stack.core.logits(x[:rows]), want[:rows], f"{rows} rows")


@pytest.mark.parametrize("kind", BLOCKS)
def test_no_matrix_is_asked_for_in_float32(kind):
    weights = Weights(kind)
    weights.stack(as_stored=True)
    assert weights.wide.asked, "norms at least"
    assert not weights.rows.keys() & set(weights.wide.asked)


MIXED = [
    ("Q4_K", {"value": "Q6_K"}),
    ("Q4_K", {"value": "Q6_K", "up": "Q5_K", "head": "Q8_0"}),
    ("Q4_0", {"key": "Q8_0", "gate": "Q5_1"}),
    ("Q5_0", {"query": "Q4_1", "up": "Q8_0"}),
    ("Q4_1", {"value": "F16", "gate": "BF16"}),
]


@pytest.mark.parametrize(("kind", "others"), MIXED)
def test_matrices_of_one_product_may_be_stored_differently(machine, kind, others):
    """As in files of llama.cpp's mixed kinds."""
    weights = Weights(kind, others)
    narrow, wide = weights.stack(as_stored=True), weights.stack(as_stored=False)
    for rows in (1, 4, 5, 50):
        for got, want in zip(states_and_logits(narrow, rows), states_and_logits(wide, rows), strict=True):
            assert np.isfinite(want).all()
            assert_same_bits(got, want, f"{kind} and {others}, {rows} rows")


def test_different_kinds_of_blocks_have_a_narrow_one_in_common():
    weights = Weights("Q4_K", {"value": "Q6_K", "up": "Q5_K"})
    weights.stack(as_stored=True)
    assert not weights.rows.keys() & set(weights.wide.asked)


def test_pairs_of_16_bits_that_do_not_come_out_even():
    weights = Weights("F16")
    name = "blocks.1.feed_forward.down.weight"
    spec = vars(weights.data.blocks[1]) | {"inner": 51}
    weights.data = StackSpec(256, weights.data.embeddings, (weights.data.blocks[0], Block(**spec)), final_norm=True)
    for into, shape in weights.data.shapes().items():
        if into.startswith("blocks.1.feed_forward") and into in weights.rows:
            half = np.random.default_rng(3).standard_normal(shape).astype("<f2")
            weights.rows[into], weights.wide[into] = ("F16", half.view(np.uint8)), half.astype(np.float32)
    weights.wide["blocks.1.feed_forward.up.bias"] = np.zeros(51, np.float32)
    assert weights.wide[name].shape == (256, 51)
    got, want = (states_and_logits(weights.stack(as_stored=kept), 5) for kept in (True, False))
    assert_same_bits(got[-1], want[-1], "odd depths")


BYTES = np.zeros((WORDS, 160), np.uint8)  # 256 numbers of Q4_1 a row
BAD = [
    (3, TypeError, "(kind, rows)"),
    ((1, 2, 3), TypeError, "(kind, rows)"),
    (("Q4_1",), TypeError, "(kind, rows)"),
    (
        ("Q4_7", BYTES),
        ValueError,
        "the kind of tensor 'head.weight' as stored is 'Q4_7', expected 'F16', 'BF16', 'Q8_0'",
    ),
    ((4, BYTES), TypeError, "kind"),
    (("Q4_1", BYTES.tolist()), TypeError, "numpy.ndarray"),
    (("Q4_1", BYTES.astype(np.int8)), TypeError, "int8, expected contiguous uint8"),
    (("Q4_1", np.asfortranarray(BYTES)), TypeError, "expected contiguous uint8"),
    (("Q4_1", BYTES[:, :-20]), TypeError, "expected contiguous uint8"),
    (("Q4_1", BYTES[:, :-20].copy()), ValueError, "has shape (37, 140), expected the bytes of (-1, 256)"),
    (("Q4_1", BYTES[:0]), ValueError, "has shape (0, 160)"),
    (("Q4_1", BYTES.reshape(-1)), ValueError, "has shape (5920,)"),
    (("Q8_0", BYTES), ValueError, "has shape (37, 160)"),
]


@pytest.mark.parametrize(("bad", "error", "message"), BAD)
def test_what_is_refused(bad, error, message):
    weights = Weights("Q4_1")
    with pytest.raises(error, match=re.escape(message)):
        Stack(weights.data, weights.wide, {"head.weight": bad}.get)


def test_stored_must_be_a_function():
    weights = Weights("Q4_1")
    with pytest.raises(TypeError, match="stored is no function"):
        Stack(weights.data, weights.wide, {})  # type: ignore[arg-type]


def test_an_error_of_the_function_passes_through():
    weights = Weights("Q4_1")

    def torn(name):
        raise OSError(f"no {name} any more")

    with pytest.raises(OSError, match=r"no head\.weight any more"):
        Stack(weights.data, weights.wide, torn)


@pytest.mark.parametrize("shape", [(37, 50), (16, 256), (5, 7), (1, 1), (0, 4), (4, 0)])
def test_packed_halves_stay_halves(machine, shape, rng):
    weight = rng.standard_normal(shape).astype(np.float16)
    bias = rng.standard_normal(shape[0]).astype(np.float16)
    layer = tfcore.PackedLinear(weight, bias)
    again = tfcore.PackedLinear(weight.astype(np.float32), bias.astype(np.float32))
    for rows in (1, 4, 5, 50):
        x = rng.standard_normal((rows, shape[1])).astype(np.float16)
        assert_same_bits(layer(x), tfcore.linear(x, weight, bias), f"{rows} rows of float16")
        assert_same_bits(layer(x.astype(np.float32)), again(x.astype(np.float32)), f"{rows} rows of float32")
        assert_same_bits(layer(x.astype(float)), tfcore.linear(x.astype(float), weight, bias), f"{rows} of float64")


@pytest.mark.parametrize("view", [np.asfortranarray, lambda w: w.astype(">f2"), lambda w: w[::-1, ::-1]])
def test_packed_halves_may_lie_anyhow(view, rng):
    weight = view(rng.standard_normal((6, 8)).astype(np.float16))
    x = rng.standard_normal((3, 8)).astype(np.float16)
    assert_same_bits(tfcore.PackedLinear(weight)(x), tfcore.linear(x, weight), "a view")
