"""The core's stack of blocks: the plain NumPy reference over all fields of a description, bits, and hostile calls."""

from __future__ import annotations

import functools
import itertools
import math
import re
import threading
from dataclasses import replace

import numpy as np
import pytest
import tfcore
from closeness import assert_close, assert_same_bits
from isas import FMA_ISAS, ISAS
from tfcore import _core, reference_model
from tfcore.models.architecture import EVERY_BIAS, NO_BIAS, Block, Embeddings, RelativeBuckets, Rotary
from tfcore.models.architecture import Stack as StackData
from tfcore.models.packing import PackedTokens
from tfcore.models.stack import Stack

# --- descriptions: every pair of these choices occurs in one of the cases ---------------------------------------------

CHOICES = {
    "heads": [(3, 3, 5), (4, 2, 8), (6, 1, 12), (2, 2, 20)],  # of queries, of keys, size: few are multiples of a vector
    "width": [37, 24, 1],
    "inner": [19, 48, 33],
    "norm": ["layer", "rms"],
    "placement": ["pre", "post", "sandwich", "parallel"],
    "activation": ["gelu", "gelu_tanh", "relu", "silu", "tanh"],
    "gated": [False, True],
    "biases": [EVERY_BIAS, NO_BIAS, frozenset({"query", "down", "gate"}), EVERY_BIAS - {"query", "down", "gate"}],
    "scale": [None, 0.3],
    "softcap": [0.0, 2.0],
    "causal": [True, False],
    "window": [(-1, -1), (3, 0), (0, 2), (130, 1)],
    "positions": ["none", "half", "interleaved", "partial", "linear", "dynamic", "llama3", "table", "sinusoidal"]
    + ["both ways", "backwards"],
    "head_norm": [False, True],
    "cross": [False, True],
    "first_norm": [True, False],
    "token_types": [0, 3],
    "embedding": [(37, 1.0), (0, 6.0)],  # width of the tables (0: the blocks'), scale
    "embedding_norm": [False, True],
    "final_norm": [True, False],
    "lengths": [(5, 1, 12), (1,), (9, 3, 0, 17)],
}
FIELDS = list(CHOICES)


def pairwise() -> list[dict]:
    """Cases in which every two choices of two fields meet, found greedily."""
    rng = np.random.default_rng(1)
    pairs = itertools.combinations(FIELDS, 2)
    left = {(a, i, b, j) for a, b in pairs for i in range(len(CHOICES[a])) for j in range(len(CHOICES[b]))}

    def met(case):
        return {(a, case[a], b, case[b]) for a, b in itertools.combinations(FIELDS, 2)}

    cases = []
    while left:
        a, i, b, j = min(left)
        tries = [{f: int(rng.integers(len(CHOICES[f]))) for f in FIELDS} | {a: i, b: j} for _ in range(12)]
        best = max(tries, key=lambda case: len(met(case) & left))
        left -= met(best)
        cases.append(best)
    return [{f: CHOICES[f][i] for f, i in case.items()} for case in cases]


def rotary(kind: str, size: int) -> Rotary | None:
    whole, part = size // 2 * 2, size // 4 * 2
    scaled = {"rope_type": kind, "factor": 3.0, "original_max_position_embeddings": 8}
    return {
        "half": Rotary(whole),
        "interleaved": Rotary(whole, base=500.0, interleaved=True),
        "partial": Rotary(part, base=100.0),
        "linear": Rotary(whole, scaling={"type": "linear", "factor": 4.0}),
        "dynamic": Rotary(whole, scaling=scaled),
        "llama3": Rotary(part, interleaved=True, scaling=scaled | {"low_freq_factor": 1.0, "high_freq_factor": 4.0}),
    }.get(kind)


def description(c: dict) -> StackData:
    """Two blocks, the second with a window of its own and no rotary embeddings."""
    (heads, key_heads, size), positions = c["heads"], c["positions"]
    relative = {"both ways": RelativeBuckets(8, 20, True), "backwards": RelativeBuckets(9, 40, False)}.get(positions)
    names = ("inner", "norm", "placement", "activation", "gated", "biases", "scale", "softcap", "causal", "window")
    block = Block(
        heads,
        key_heads,
        size,
        eps=1e-3,
        rotary=rotary(positions, size),
        relative=relative is not None,
        head_norm=c["head_norm"],
        cross=c["cross"],
        first_norm=c["first_norm"],
        **{name: c[name] for name in names},
    )
    width, scale = c["embedding"]
    embeddings = Embeddings(
        vocabulary=23,
        width=width or c["width"],
        scale=scale,
        positions=270 if positions in ("table", "sinusoidal") else 0,
        position_offset=2 if positions == "table" else 0,
        sinusoidal=positions == "sinusoidal",
        token_types=c["token_types"],
        norm=c["embedding_norm"],
    )
    blocks = (block, replace(block, first_norm=True, window=(7, 4), rotary=None, inner=c["inner"] + 2))
    return StackData(c["width"], embeddings, blocks, final_norm=c["final_norm"], relative=relative)


def random_tensors(data: StackData, rng) -> dict[str, np.ndarray]:
    """Weights that keep numbers around one: products by 1 / √K, norms around one, and biases that show."""
    tensors = {}
    for name, shape in data.shapes().items():
        values = rng.standard_normal(shape)
        if len(shape) == 2 and not name.startswith("embeddings.") and name != "relative.weight":
            values /= math.sqrt(shape[1])
        elif name.endswith("norm.weight"):
            values = 1 + 0.3 * values
        tensors[name] = values.astype(np.float32)
    return tensors


class Example:
    """A description with weights and a batch of texts, of whose encoder texts each sequence attends to one."""

    def __init__(self, choices: dict, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.data = description(choices)
        self.tensors = random_tensors(self.data, rng)
        self.texts = [rng.integers(0, 23, n) for n in choices["lengths"]]
        self.types = [rng.integers(0, max(choices["token_types"], 1), len(text)) for text in self.texts]
        self.encoded = [rng.standard_normal((n, self.data.width)).astype(np.float32) for n in (4, 33, 1)]
        self.sources = rng.integers(0, 3, len(self.texts))

    @functools.cached_property
    def stack(self) -> Stack:
        return Stack(self.data, self.tensors)

    @property
    def cross(self) -> bool:
        return self.data.blocks[0].cross

    def keys(self):
        borders = np.cumsum([0, *map(len, self.encoded)])
        return self.stack.core.cross_keys(np.concatenate(self.encoded), borders) if self.cross else None

    def run(self, which=None, cache=None, cut=None, **wanted):
        """Forward pass of some of the texts, or of a slice of each."""
        which = list(range(len(self.texts)) if which is None else which)
        cut = cut or slice(None)
        tokens = PackedTokens.from_texts([self.texts[b][cut] for b in which], past=cut.start or 0)
        tokens = replace(tokens, token_type_ids=np.concatenate([self.types[b][cut] for b in which]))
        sources = self.sources[which] if self.cross else None
        return self.stack.run(tokens, cache=cache, encoded=self.keys(), sources=sources, **wanted)

    @functools.cached_property
    def wanted(self) -> list[reference_model.StackOutput]:
        return [
            reference_model.stack(
                text, self.tensors, self.data, token_type_ids=types, encoded=self.encoded[source]
            )
            for text, types, source in zip(self.texts, self.types, self.sources, strict=True)
        ]

    @property
    def roundings(self) -> float:
        """In a row: products, norms, scores and sums of two blocks, each as of a dot product as long as the longest.

        Such a sum is off by √K roundings of √K times its result, where terms are as likely positive as negative.
        """
        block = self.data.blocks[0]
        longest = max(block.inner, block.heads * block.head_size, self.data.width, self.data.embeddings.width)
        return (12 if self.cross else 8) * 2 * 4 * math.sqrt(longest)


CASES = pairwise()
for case, lengths in zip(CASES[::9], itertools.cycle([(130, 3), (259,)]), strict=False):  # over blocks and spans of keys
    case["lengths"] = lengths


@functools.cache
def example(i: int) -> Example:
    return Example(CASES[i], seed=i)


# --- the reference ---------------------------------------------------------------------------------------------------


def check(got, want, roundings, what):
    bound = roundings * 2.0**-24 * max(1.0, float(np.max(np.abs(want), initial=0.0)))
    assert_close(got, want, bound=bound, what=what)


@pytest.mark.parametrize("i", range(len(CASES)))
def test_every_description_is_the_references(i):
    case = example(i)
    borders = np.cumsum([0, *map(len, case.texts)])
    for isa, threads in [*((isa, 2) for isa in ISAS), (ISAS[0], 1), (ISAS[0], 5)]:
        with tfcore.use_isa(isa), tfcore.num_threads(threads):
            got = case.run(output_hidden_states=True, output_attentions=True)
            (last,) = case.run().states
        assert_same_bits(last, got.states[-1], "alone")
        for b, want in enumerate(case.wanted):
            n, what = len(case.texts[b]), f"{CASES[i]} on {isa}, text {b}: "
            assert len(got.states) == len(want.states)
            for k, state in enumerate(want.states):
                check(got.states[k][borders[b] : borders[b + 1]], state, case.roundings, f"{what} state {k}")
            for kind in ("attentions", "cross_attentions"):
                mine, theirs = getattr(got, kind), getattr(want, kind)
                assert len(mine) == len(theirs)
                for k, weights in enumerate(theirs):
                    check(mine[k][b, :, :n, : weights.shape[2]], weights, case.roundings, f"{what} {kind} {k}")
                    assert not mine[k][b, :, n:].any() and not mine[k][b, :, :, weights.shape[2] :].any()


def test_the_cases_meet_every_pair():
    for a, b in itertools.combinations(FIELDS[:-1], 2):  # lengths are made longer here and there
        met = {(str(case[a]), str(case[b])) for case in CASES}
        assert len(met) == len(CHOICES[a]) * len(CHOICES[b]), (a, b)
