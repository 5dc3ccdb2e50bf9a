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
from tfcore.models.architecture import EVERY_BIAS, NO_BIAS, Block, Embeddings, RelativeBuckets, Rotary, StackSpec
from tfcore.models.packing import PackedTokens
from tfcore.models.stack import Stack
from tfcore.models.stack import _spec as core_spec

# --- descriptions: every pair of these choices occurs in one of the cases ---------------------------------------------

ROTARIES = ["half", "interleaved", "partial", "linear", "dynamic", "llama3"]
CHOICES = {
    "heads": [(3, 3, 5), (4, 2, 8), (6, 1, 12), (2, 2, 20)],  # of queries, of keys, size: few are multiples of a vector
    "width": [37, 24, 5],
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
    "positions": [None, *ROTARIES, "table", "sinusoidal", "buckets", "left-buckets"],
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


def rotary(kind: str | None, size: int) -> Rotary | None:
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


def description(c: dict) -> StackSpec:
    """Two blocks, the second with a window of its own and no rotary embeddings."""
    (heads, key_heads, size), positions = c["heads"], c["positions"]
    relative = {"buckets": RelativeBuckets(8, 20, True), "left-buckets": RelativeBuckets(9, 40, False)}.get(positions)
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
        positions=310 if positions in ("table", "sinusoidal") else 0,
        position_offset=2 if positions == "table" else 0,
        sinusoidal=positions == "sinusoidal",
        token_types=c["token_types"],
        norm=c["embedding_norm"],
    )
    blocks = (block, replace(block, first_norm=True, window=(7, 4), rotary=None, inner=c["inner"] + 2))
    return StackSpec(c["width"], embeddings, blocks, final_norm=c["final_norm"], relative=relative)


def random_tensors(data: StackSpec, rng) -> dict[str, np.ndarray]:
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
        tokens = replace(tokens, token_type_ids=np.concatenate([self.types[b][cut] for b in which]), typed=True)
        sources = self.sources[which] if self.cross else None
        return self.stack.run(tokens, cache=cache, encoded=self.keys(), sources=sources, **wanted)

    @functools.cached_property
    def wanted(self) -> list[reference_model.StackOutput]:
        return [
            reference_model.stack(text, self.tensors, self.data, token_type_ids=types, encoded=self.encoded[source])
            for text, types, source in zip(self.texts, self.types, self.sources, strict=True)
        ]

    @property
    def roundings(self) -> float:
        """In a row: products, norms, scores and sums of two blocks, each as of a dot product as long as the longest.

        Such a sum is off by √K roundings of √K times its result, where terms are as likely positive as negative.
        """
        block = self.data.blocks[0]
        longest = max(block.inner, block.heads * block.head_size, self.data.width, self.data.embeddings.width)
        return (12 if self.cross else 8) * 2 * math.sqrt(longest)


CASES = pairwise()
for case, lengths in zip(
    CASES[::9], itertools.cycle([(130, 3), (259,)]), strict=False
):  # over blocks and spans of keys
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
                    assert not mine[k][b, :, n:].any()
                    assert not mine[k][b, :, :, weights.shape[2] :].any()


def test_token_types_that_are_words(isa):
    case = Example(SIMPLE, seed=4)
    case.data = replace(case.data, embeddings=replace(case.data.embeddings, typed_by_words=True))
    case.types = [np.flip(text) for text in case.texts]
    (got,) = case.run().states
    check(got, np.concatenate([want.states[-1] for want in case.wanted]), case.roundings, "token types that are words")
    tokens = PackedTokens.from_texts(case.texts)
    assert_same_bits(case.stack.run(tokens).states[-1], Example(SIMPLE, seed=4).run().states[-1])
    with pytest.raises(ValueError, match="token_type_ids holds 23, but token types known are 23"):
        case.stack.run(replace(tokens, token_type_ids=tokens.input_ids * 0 + 23, typed=True))


def test_the_cases_meet_every_pair():
    for a, b in itertools.combinations(FIELDS[:-1], 2):  # lengths are made longer here and there
        met = {(str(case[a]), str(case[b])) for case in CASES}
        assert len(met) == len(CHOICES[a]) * len(CHOICES[b]), (a, b)


# --- same row, same bits ---------------------------------------------------------------------------------------------

SIMPLE = {field: choices[0] for field, choices in CHOICES.items()}  # causal, and no choice depends on a text's length
LONG = {"lengths": (300, 131)}
CACHED = [
    LONG | {"positions": "half", "cross": True},
    LONG | {"positions": "interleaved", "heads": (6, 1, 12), "gated": True, "head_norm": True, "norm": "rms"},
    LONG | {"positions": "left-buckets", "placement": "sandwich", "window": (3, 0)},
    LONG | {"positions": "table", "placement": "parallel", "softcap": 2.0, "window": (130, 1), "token_types": 3},
]


@pytest.mark.parametrize("i", range(0, len(CASES), 3))
def test_a_text_alone_is_the_text_in_a_batch(i):
    case = example(i)
    (together,) = case.run().states
    borders = np.cumsum([0, *map(len, case.texts)])
    for b in range(len(case.texts)):
        (alone,) = case.run([b]).states
        assert_same_bits(alone, together[borders[b] : borders[b + 1]])


def test_texts_that_attend_to_one_text_do_not_meet(machine, rng):
    """Their rows go through its keys together; or apart, over spans of its keys, where tasks would be too few."""
    case = Example(SIMPLE | {"cross": True, "lengths": (1, 1, 5, 1, 1, 70, 1, 1)}, seed=5)
    case.encoded[1] = rng.standard_normal((1200, case.data.width)).astype(np.float32)
    case.sources = np.array([1, 1, 1, 0, 0, 1, 1, 2])
    (together,) = case.run().states
    alone = [case.run([b]).states[0] for b in range(len(case.texts))]
    assert_same_bits(np.concatenate(alone), together)
    assert_same_bits(case.run([0, 1, 6]).states[0], np.concatenate([alone[b] for b in (0, 1, 6)]))


@pytest.mark.parametrize("choices", CACHED)
def test_pieces_with_a_cache_are_the_whole(choices, isa, rng):
    case = Example(SIMPLE | choices, seed=3)
    (whole,) = case.run([0]).states
    somewhere = sorted({int(n) for n in rng.integers(1, 300, 3)})
    for cuts in ([127, 128, 129], [1, 2, 256, 257], [255, 299], somewhere):
        cache = _core.Cache(case.stack.core, 1)
        pieces = [case.run([0], cache, slice(*ends)).states[0] for ends in itertools.pairwise([0, *cuts, 300])]
        assert_same_bits(np.concatenate(pieces), whole, f"cut at {cuts}")
        assert cache.lengths == (300,)


@pytest.mark.parametrize("prompt", [1, 127, 128, 129])
def test_copies_that_diverge_are_texts_of_their_own(prompt, rng):
    case = Example(SIMPLE | LONG | {"positions": "half"}, seed=4)
    common, other = case.texts[0][:prompt], case.texts[1][:prompt]
    ends = [rng.integers(0, 23, 131) for _ in range(3)]
    case.texts = [common, other]
    case.types = [np.zeros(prompt, int)] * 2
    cache = _core.Cache(case.stack.core, 2)
    case.run(cache=cache)
    shared = cache.nbytes
    cache.select([1, 0, 1])
    assert cache.nbytes == shared
    assert cache.lengths == (prompt,) * 3

    case.texts = [np.concatenate([text, end]) for text, end in zip((other, common, other), ends, strict=True)]
    case.types = [np.zeros(prompt + 131, int)] * 3
    (grown,) = case.run(cache=cache, cut=slice(prompt, None)).states
    (whole,) = case.run().states
    assert_same_bits(grown.reshape(3, 131, -1), whole.reshape(3, prompt + 131, -1)[:, prompt:])


@pytest.mark.parametrize("i", range(0, len(CASES), 3))
def test_threads_and_fused_instruction_sets_change_no_bit(i):
    case = example(i)
    for group in (FMA_ISAS, [isa for isa in ISAS if isa not in FMA_ISAS]):
        results = []
        for isa, threads in itertools.product(group, (1, 2, 5)):
            with tfcore.use_isa(isa), tfcore.num_threads(threads):
                results.append(case.run().states[0])
        for result in results[1:]:
            assert_same_bits(result, results[0])


# --- hostile calls ---------------------------------------------------------------------------------------------------

WITH_ALL = SIMPLE | {"cross": True, "positions": "buckets", "token_types": 3, "lengths": (3, 2)}


def small(**choices) -> Example:
    return Example(WITH_ALL | choices, seed=5)


def spec_of(case: Example) -> dict:
    """Its description in the core's words, as a dictionary to break."""
    return core_spec(case.data, [])


def call(case: Example, core=None, **changed):
    """Stack.forward, of its own stack or another, with all arguments in order, but for those changed."""
    arguments = {
        "input_ids": np.arange(5),
        "token_type_ids": np.zeros(5, int),
        "position_ids": np.arange(5),
        "turns": np.arange(5.0),
        "cu_seqlens": [0, 3, 5],
        "rotations": [],
        "relative_bias": np.zeros((3, 81), np.float32),
        "cache": None,
        "cross_keys": case.keys(),
        "sources": [0, 2],
        "seen": None,
        "output_hidden_states": False,
        "output_attentions": False,
    }
    return (core or case.stack.core).forward(**(arguments | changed))


FREQUENCIES, ONE = np.ones((1, 2)), np.ones(1)
BAD_CALLS = [
    ({"input_ids": np.arange(5.0)}, TypeError, "input_ids"),
    ({"input_ids": None}, TypeError, "input_ids"),
    ({"input_ids": [0, 1, 2, 3, 23]}, ValueError, "input_ids has 23"),
    ({"input_ids": [0, 1, 2, 3, -1]}, ValueError, "input_ids has -1"),
    ({"input_ids": np.array([0, 1, 2, 3, 2**64 - 1], np.uint64)}, ValueError, "input_ids"),
    ({"token_type_ids": [0, 0, 0, 0, 3]}, ValueError, "token_type_ids has 3"),
    ({"token_type_ids": None}, ValueError, "token_type_ids"),
    ({"token_type_ids": [0]}, ValueError, "token_type_ids"),
    ({"position_ids": [0]}, ValueError, "position_ids"),
    ({"position_ids": "abc"}, TypeError, "position_ids"),
    ({"turns": np.arange(5)}, TypeError, "turns"),
    ({"turns": np.arange(5.0, dtype=">f8")}, TypeError, "turns"),
    ({"turns": np.arange(10.0)[::2]}, TypeError, "turns"),
    ({"turns": np.arange(4.0)}, ValueError, "turns"),
    ({"turns": [0.0] * 5}, TypeError, "turns"),
    *(({"cu_seqlens": cu}, ValueError, "cu_seqlens") for cu in ([], [0], [1, 5], [0, 4], [0, 6], [0, 4, 2, 5])),
    ({"cu_seqlens": [0, -(2**62), 5]}, ValueError, "cu_seqlens"),
    ({"cu_seqlens": [0.0, 3.0, 5.0]}, TypeError, "cu_seqlens"),
    ({"cu_seqlens": [0, 5]}, ValueError, "sources has 2 entries"),
    ({"rotations": None}, TypeError, "rotations"),
    ({"rotations": [3]}, TypeError, "rotations"),
    ({"rotations": [()]}, TypeError, "rotations"),
    ({"rotations": [(FREQUENCIES, ONE)]}, TypeError, "rotations"),
    ({"rotations": [(FREQUENCIES.astype(np.float32), ONE, False)]}, TypeError, "frequencies"),
    ({"rotations": [(FREQUENCIES[0], ONE, False)]}, TypeError, "frequencies"),
    ({"rotations": [(FREQUENCIES, np.ones(2), False)]}, ValueError, "frequencies"),
    ({"rotations": [(np.ones((3, 2)), np.ones(3), False)]}, ValueError, "frequencies"),
    ({"rotations": [(FREQUENCIES, 1.0, False)]}, TypeError, "magnitudes"),
    ({"rotations": [(FREQUENCIES, ONE, 2)]}, TypeError, "interleaved"),
    ({"relative_bias": None}, TypeError, "relative_bias"),
    ({"relative_bias": np.zeros((3, 81))}, TypeError, "relative_bias"),
    ({"relative_bias": np.zeros((2, 81), np.float32)}, ValueError, "relative_bias"),
    ({"relative_bias": np.zeros((3, 80), np.float32)}, ValueError, "relative_bias"),
    ({"relative_bias": np.zeros((3, 5), np.float32)}, ValueError, "relative_bias"),
    ({"relative_bias": np.zeros((81, 3), np.float32).T}, TypeError, "relative_bias"),
    ({"cache": 3}, TypeError, "cache"),
    ({"cross_keys": None}, ValueError, "cross_keys"),
    ({"cross_keys": 3}, TypeError, "cross_keys"),
    ({"sources": None}, TypeError, "sources"),
    ({"sources": [0]}, ValueError, "sources"),
    ({"sources": [0, 3]}, ValueError, "sources has 3"),
    ({"sources": [0, -1]}, ValueError, "sources has -1"),
    ({"seen": [1]}, ValueError, "seen has 1 entries"),
    ({"seen": [0, 10**6]}, ValueError, "seen holds 1000000"),
    ({"seen": [-1, 0]}, ValueError, "seen holds -1"),
    ({"seen": "all"}, TypeError, "seen"),
    ({"output_hidden_states": "no"}, TypeError, "output_hidden_states"),
    ({"output_attentions": 2}, TypeError, "output_attentions"),
]


@functools.cache
def hostage() -> Example:
    return small()


@pytest.mark.parametrize(("changed", "error", "message"), BAD_CALLS)
def test_bad_calls(changed, error, message):
    want = call(hostage())[0][0]
    with pytest.raises(error, match=re.escape(message)):
        call(hostage(), **changed)
    assert_same_bits(call(hostage())[0][0], want, "after the error")


def test_rotations_that_blocks_name():
    case = small(cross=False, positions="half")
    with pytest.raises(ValueError, match="rotations"):
        call(case, rotations=[])
    with pytest.raises(ValueError, match="frequencies"):
        call(case, rotations=[(np.ones((1, 3)), ONE, False)])


@pytest.mark.parametrize("without", [0, 1])
def test_a_block_without_cross_attention_beside_one_that_has_it(without):
    case = small()
    tensors = {name: x for name, x in case.tensors.items() if not name.startswith(f"blocks.{without}.cross")}
    core = _core.Stack(spec_of(case), tensors)
    keys = core.cross_keys(np.concatenate(case.encoded), np.cumsum([0, *map(len, case.encoded)]))
    _, attentions, (weights,) = call(case, core, cross_keys=keys, output_attentions=True)
    assert len(attentions) == 2
    assert np.allclose(weights.sum(-1)[0], 1)
    assert np.allclose(weights.sum(-1)[1, :, :2], 1)


def test_what_was_made_by_another_model():
    case, other = hostage(), small(heads=(3, 1, 5))
    with pytest.raises(ValueError, match="cross_keys"):
        call(case, cross_keys=other.keys())
    with pytest.raises(ValueError, match="cache"):
        call(case, cache=_core.Cache(other.stack.core, 2))
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match=f"cache holds {count} sequences"):
            call(case, cache=_core.Cache(case.stack.core, count))


def test_bad_caches_and_encoder_keys():
    core = hostage().stack.core
    for bad, error in [(-1, ValueError), (2**40, ValueError), (1.5, TypeError), (None, TypeError)]:
        with pytest.raises(error, match="sequences"):
            _core.Cache(core, bad)
    cache = _core.Cache(core, 2)
    for bad, error in [([2], ValueError), ([-1], ValueError), ([0.5], TypeError), (None, TypeError)]:
        with pytest.raises(error, match="parents"):
            cache.select(bad)
    assert cache.lengths == (0, 0)
    x = np.zeros((4, hostage().data.width), np.float32)
    for encoded in (x.astype(float), x[0], x.T, None):
        with pytest.raises(TypeError, match="encoded"):
            core.cross_keys(encoded, [0, 4])
    with pytest.raises(ValueError, match="encoded"):
        core.cross_keys(x[:, :3].copy(), [0, 4])
    with pytest.raises(ValueError, match="cu_seqlens"):
        core.cross_keys(x, [0, 5])
    with pytest.raises(TypeError):
        _core.CrossKeys()
    with pytest.raises(ValueError, match="no head"):
        core.logits(x)


def test_what_was_never_initialised():
    case = hostage()
    stack, cache, keys = (kind.__new__(kind) for kind in (_core.Stack, _core.Cache, _core.CrossKeys))
    x = np.zeros((4, case.data.width), np.float32)
    for use, message in [
        (lambda: call(case, stack), "Stack.forward: __init__"),
        (lambda: stack.cross_keys(x, [0, 4]), "Stack.cross_keys: __init__"),
        (lambda: stack.logits(x), "Stack.logits: __init__"),
        (lambda: _core.Cache(stack, 2), "Cache: stack: __init__"),
        (lambda: cache.select([0]), "Cache.select: __init__"),
        (lambda: cache.lengths, "Cache.lengths: __init__"),
        (lambda: cache.nbytes, "Cache.nbytes: __init__"),
        (lambda: call(case, cache=cache), "Stack.forward: cache: __init__"),
        (lambda: call(case, cross_keys=keys), "Stack.forward: cross_keys: __init__"),
    ]:
        with pytest.raises(TypeError, match=f"{re.escape(message)} has not been called yet"):
            use()


def test_a_cache_serves_one_call_at_a_time():
    case = Example(SIMPLE | {"lengths": (800,), "width": 37}, seed=6)
    cache, errors = _core.Cache(case.stack.core, 1), []
    case.run()

    def run():
        try:
            case.run(cache=cache)
        except ValueError as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.lengths == ((4 - len(errors)) * 800,)
    assert all("cache is in use" in str(error) for error in errors)


BAD_SPECS = [
    *((name, None, ValueError) for name in ("width", "norm", "eps", "embedding_scale", "blocks")),
    ("width", 0, ValueError),
    ("width", 37.0, TypeError),
    ("norm", "batch", ValueError),
    ("norm", 3, TypeError),
    ("eps", -1.0, ValueError),
    ("eps", float("nan"), ValueError),
    ("embedding_scale", 1e300, ValueError),
    ("blocks", [], ValueError),
    ("blocks", 3, TypeError),
    ("blocks", [3], TypeError),
]
BAD_BLOCKS = [
    *((name, None, ValueError) for name in ("inner", "heads", "activation", "scale", "causal", "left", "relative")),
    *((name, 0, ValueError) for name in ("inner", "heads", "key_heads", "head_size")),
    ("key_heads", 2, ValueError),
    ("norm", "batch", ValueError),
    ("softcap", -1.0, ValueError),
    ("scale", "wide", TypeError),
    ("scale", float("inf"), ValueError),
    ("causal", 2, TypeError),
    ("parallel", "no", TypeError),
    ("activation", "swoosh", ValueError),
    ("left", -2, ValueError),
    ("rotary", 1.5, TypeError),
]


@pytest.mark.parametrize(("name", "value", "error"), BAD_SPECS)
def test_bad_specs(name, value, error):
    spec = spec_of(hostage()) | {name: value}
    if value is None:
        del spec[name]
    with pytest.raises(error, match=name):
        _core.Stack(spec, hostage().tensors)


@pytest.mark.parametrize(("name", "value", "error"), BAD_BLOCKS)
def test_bad_blocks(name, value, error):
    spec = spec_of(hostage())
    spec["blocks"][1][name] = value
    if value is None:
        del spec["blocks"][1][name]
    with pytest.raises(error, match=name):
        _core.Stack(spec, hostage().tensors)


BEYOND = [*(("scale", x) for x in (1e300, -3e38)), *(("softcap", x) for x in (1e300, 3e38, 1e-40, 1e-60, -1.0))]


@pytest.mark.parametrize(("name", "value"), BEYOND)
def test_scales_that_the_operator_refuses(name, value):
    x, spec = np.ones((1, 2, 4), np.float32), spec_of(hostage())
    spec["blocks"][1] |= {"scale": 0.5, name: value}
    with pytest.raises(ValueError, match="scaled_dot_product_attention: ") as refused:
        tfcore.scaled_dot_product_attention(x, x, x, **{"scale": 0.5, name: value})
    why = str(refused.value).removeprefix(f"scaled_dot_product_attention: {name} ")
    with pytest.raises(ValueError, match=re.escape(f"Stack: blocks.1['{name}'] {why}")):
        _core.Stack(spec, hostage().tensors)


def test_sizes_are_not_believed_before_the_tensors_are_seen():
    for names in (["heads"], ["heads", "key_heads"], ["inner"]):
        spec = spec_of(hostage())
        spec["blocks"][0] |= dict.fromkeys(names, 3 << 29)
        spec["blocks"] = spec["blocks"][:1]
        with pytest.raises(ValueError, match=r"tensor 'blocks\.0"):
            _core.Stack(spec, hostage().tensors)


def test_bad_tensors():
    case = hostage()
    spec = spec_of(case)
    for name, tensor in case.tensors.items():
        if name == "relative.weight" or "norm" in name or name.endswith("bias") or "token_type" in name:
            continue  # those may be missing
        without = {key: value for key, value in case.tensors.items() if key != name}
        if not name.endswith("cross.query.weight") and "projection" not in name:
            with pytest.raises(ValueError, match=re.escape(name)):
                _core.Stack(spec, without)
        for bad, error in [
            (tensor.astype(float), TypeError),
            (tensor.tolist(), TypeError),
            (np.asfortranarray(tensor), TypeError),
            (tensor.astype(">f4"), TypeError),
            (tensor[None], ValueError),
            (tensor[:0], ValueError),
        ]:
            with pytest.raises(error, match=re.escape(name)):
                _core.Stack(spec, without | {name: bad})
    with pytest.raises(TypeError, match="tensors"):
        _core.Stack(spec, 3)
    with pytest.raises(ValueError, match="key_norm"):
        _core.Stack(spec, case.tensors | {"blocks.0.attention.query_norm.weight": np.ones(5, np.float32)})
