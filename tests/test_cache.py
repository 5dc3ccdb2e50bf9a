"""The cache of keys and values: a step after any past has the bits of the full pass, whatever became of the cache."""

from __future__ import annotations

import dataclasses
from functools import cache

import family_checkpoints
import numpy as np
import pytest
import tfcore
from children import in_a_subprocess
from closeness import assert_same_bits
from tfcore import _core
from tfcore.models.packing import PackedTokens

LONG = 300  # positions: more than two chunks of 128
POSITIONS = {"gpt2": "n_positions", "bart": "max_position_embeddings", "marian": "max_position_embeddings"}
NAMES = [
    "gpt2.causal_lm",
    "gpt_neox.causal_lm",
    "llama-llama3.causal_lm",
    "mistral.causal_lm",
    "qwen2-sliding.causal_lm",
    "qwen3.causal_lm",
    "gemma3.causal_lm",
    "phi3-partial.causal_lm",
    "t5.seq2seq_lm",
    "bart.seq2seq_lm",
    "marian.seq2seq_lm",
]


@cache
def folder_of(name, base):
    """A recording's checkpoint, with more positions where there is a table of them."""
    recording = family_checkpoints.load(name)
    field = POSITIONS.get(recording.config["model_type"])
    if field:
        shapes = {
            key: (shape[0] - recording.config[field] + LONG, shape[1]) if "wpe" in key or "positions" in key else shape
            for key, shape in recording.shapes.items()
        }
        recording = dataclasses.replace(recording, config=recording.config | {field: LONG}, shapes=shapes)
    return family_checkpoints.write_checkpoint(base / name, recording), recording.auto_class


class Decoder:
    """A recording's decoder at work on texts, whether it attends to encoded texts or not."""

    def __init__(self, name, base, texts):
        folder, auto_class = folder_of(name, base)
        model = getattr(tfcore, auto_class).from_pretrained(folder)
        self.encoded, self.sources, self.stack = None, None, getattr(model, "stack", None)
        if self.stack is None:
            self.stack = model.decoder
            self.encoded = model.encode_packed(PackedTokens.from_texts([range(5, 12 + 3 * b) for b in range(texts)]))
            self.sources = np.arange(texts)

    def new_cache(self, texts):
        return _core.Cache(self.stack.core, texts)

    def run(self, texts, cached=None):
        """The last hidden states of each text's tokens, which follow those in the cache."""
        tokens = PackedTokens.from_texts(texts, past=0 if cached is None else cached.lengths)
        hidden = self.stack.run(tokens, cache=cached, encoded=self.encoded, sources=self.sources)
        return np.split(hidden.states[-1], tokens.cu_seqlens[1:-1])

    def select(self, cached, parents):
        cached.select(parents)
        if self.sources is not None:
            self.sources = self.sources[parents]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoints")


def words(*lengths, seed=0):
    random = np.random.RandomState(seed)
    return [random.randint(3, 60, length).tolist() for length in lengths]


def pieces(texts, begins, ends):
    return [text[begin:end] for text, begin, end in zip(texts, begins, ends, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_steps_have_the_bits_of_the_full_pass(name, base):
    """Prompts of different lengths, one of them over the border of a chunk, then token by token, over more borders."""
    prompts, steps = (1, 7, 124, 130, 250), 8
    texts = words(*(length + steps for length in prompts))
    decoder = Decoder(name, base, len(texts))
    full, cached = decoder.run(texts), decoder.new_cache(len(texts))
    prefilled = decoder.run(pieces(texts, [0] * len(texts), prompts), cached)
    for at, text, states in zip(prompts, full, prefilled, strict=True):
        assert_same_bits(states, text[:at])
    for step in range(steps):
        now = [length + step for length in prompts]
        assert cached.lengths == tuple(now)
        steps_of = decoder.run(pieces(texts, now, [at + 1 for at in now]), cached)
        for at, text, states in zip(now, full, steps_of, strict=True):
            assert_same_bits(states, text[at : at + 1], f"position {at}")


@pytest.mark.parametrize("name", ["gpt2.causal_lm", "gemma3.causal_lm", "bart.seq2seq_lm", "t5.seq2seq_lm"])
def test_pieces_of_any_length(name, base):
    """Texts come in pieces of their own lengths, also of none."""
    texts = words(140, 33, 257)
    decoder = Decoder(name, base, len(texts))
    full, cached = decoder.run(texts), decoder.new_cache(len(texts))
    random, done = np.random.RandomState(5), np.zeros(3, int)
    while any(done < [len(text) for text in texts]):
        ends = [min(len(text), at + random.choice([0, 1, 3, 50])) for text, at in zip(texts, done, strict=True)]
        for b, states in enumerate(decoder.run(pieces(texts, done, ends), cached)):
            assert_same_bits(states, full[b][done[b] : ends[b]], f"text {b} from {done[b]}")
        done = np.array(ends)


def test_on_every_instruction_set_and_any_number_of_threads(machine, base):
    texts = words(150, 9)
    decoder = Decoder("gemma3.causal_lm", base, len(texts))
    full, cached = decoder.run(texts), decoder.new_cache(len(texts))
    decoder.run(pieces(texts, [0, 0], [127, 7]), cached)
    for now in ((127, 7), (128, 8)):
        states = decoder.run(pieces(texts, now, np.add(now, 1)), cached)
        assert_same_bits(np.concatenate(states), np.stack([text[at] for text, at in zip(full, now, strict=True)]))


def test_rotations_that_follow_each_texts_length(base):
    """A batch of texts on both sides of the trained length, 16, steps in two passes over one cache."""
    texts, prompts = words(10, 30, 0, 16, 150), [3, 20, 0, 9, 140]
    decoder = Decoder("phi3-longrope.base", base, len(texts))
    full, cached = decoder.run(texts), decoder.new_cache(len(texts))
    decoder.run(pieces(texts, [0] * len(texts), prompts), cached)
    while cached.lengths != tuple(map(len, texts)):
        now = cached.lengths
        for at, text, states in zip(now, full, decoder.run(pieces(texts, now, np.add(now, 1)), cached), strict=True):
            assert_same_bits(states, text[at : at + 1], f"position {at}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("past", [5, 126, 128])
def test_beams_that_diverge(name, base, past):
    """Duplicated texts go on each with words of its own, twice over; the borders of chunks lie between."""
    histories = words(past, past + 1)
    decoder = Decoder(name, base, len(histories))
    cached = decoder.new_cache(len(histories))
    decoder.run(histories, cached)
    for round_, parents in enumerate(([0, 0, 1, 1, 0], [4, 1, 1, 2, 2, 0])):
        decoder.select(cached, parents)
        histories = [list(histories[parent]) for parent in parents]
        for step in range(3):
            news = words(*[1] * len(parents), seed=100 * round_ + step)
            states = decoder.run(news, cached)
            histories = [history + new for history, new in zip(histories, news, strict=True)]
            for state, full in zip(states, decoder.run(histories), strict=True):
                assert_same_bits(state, full[-1:], f"round {round_} step {step}")


def test_a_past_is_shared_until_it_is_written_to(base):
    decoder = Decoder("llama-llama3.causal_lm", base, 1)
    cached = decoder.new_cache(1)
    assert cached.nbytes == 0
    decoder.run(words(130), cached)
    two_chunks = cached.nbytes
    decoder.run(words(100), cached)
    assert cached.nbytes == two_chunks, "a chunk has room for 128 positions"
    cached.select([0, 0, 0, 0])
    assert cached.nbytes == two_chunks
    decoder.run(words(1, 1, 1, 1), cached)
    assert cached.nbytes == two_chunks // 2 * 5, "the first chunk is shared, four texts have a last one of their own"


def test_chunks_that_nobody_holds_wait_for_the_next_copy(base):
    decoder = Decoder("llama-llama3.causal_lm", base, 1)
    cached = decoder.new_cache(1)
    decoder.run(words(5), cached)
    one_chunk = cached.nbytes
    cached.select([0, 0, 0, 0])
    for _ in range(5):
        decoder.run(words(1, 1, 1, 1), cached)
        assert cached.nbytes == 4 * one_chunk
        cached.select([2, 2, 2, 2])
        assert cached.nbytes == 4 * one_chunk, "one that all share, and three that wait"
    cached.select([0, 1])
    assert cached.nbytes == 3 * one_chunk, "as many wait as there are texts, at most"


def test_select_may_drop_all(base):
    decoder = Decoder("llama-llama3.causal_lm", base, 2)
    cached = decoder.new_cache(2)
    decoder.run(words(9, 4), cached)
    cached.select([1])
    assert cached.lengths == (4,)
    cached.select([])
    assert cached.lengths == ()
    assert cached.nbytes == 0


def test_what_a_cache_refuses(base):
    decoder = Decoder("llama-llama3.causal_lm", base, 2)
    other = Decoder("gemma3.causal_lm", base, 2)
    cached = decoder.new_cache(2)
    with pytest.raises(ValueError, match="cache holds 2 sequences, the batch 3"):
        decoder.stack.run(PackedTokens.from_texts(words(1, 1, 1)), cache=cached)
    with pytest.raises(ValueError, match="cache was made for another model"):
        other.stack.run(PackedTokens.from_texts(words(1, 1)), cache=cached)
    with pytest.raises(ValueError, match="parents has 2, expected 0 to 1"):
        cached.select([0, 2])
    with pytest.raises(ValueError, match="parents has -1"):
        cached.select([-1])
    assert cached.lengths == (0, 0)


def test_a_pass_that_failed_leaves_nothing_to_share():
    """Its room was taken before memory ran out; texts that continue from it must not write into the same."""
    code = """
        import resource
        import numpy as np
        from tfcore import _core

        rng = np.random.default_rng(0)
        width, inner, words = 32, 65536, 50
        shapes = {"embeddings.word": (words, width), "blocks.0.feed_forward.up": (inner, width)}
        shapes["blocks.0.feed_forward.down"] = (width, inner)
        shapes |= {f"blocks.0.attention.{name}": (width, width) for name in ("query", "key", "value", "output")}
        tensors = {f"{name}.weight": 0.1 * rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
        block = dict(inner=inner, heads=2, key_heads=2, head_size=16, norm="rms", eps=1e-6, parallel=False,
                     activation="relu", scale=0.25, softcap=0.0, causal=True, left=-1, right=-1, rotary=-1,
                     relative=False)
        stack = _core.Stack(dict(width=width, norm="rms", eps=1e-6, embedding_scale=1.0, blocks=[block]), tensors)

        def run(texts, cache=None):
            past = cache.lengths if cache else [0] * len(texts)
            places = np.concatenate([p + np.arange(len(text)) for p, text in zip(past, texts)])
            borders = np.cumsum([0, *map(len, texts)])
            hidden, *_ = stack.forward(np.concatenate(texts), None, places, places.astype(float), borders, [], None,
                                       cache, None, None, None, False, False)
            return np.split(hidden[-1], borders[1:-1])

        first, one, other = rng.integers(0, words, 1), rng.integers(0, words, 300), rng.integers(0, words, 300)
        want = [run([np.append(first, text)])[0][1:] for text in (one, other)]
        cache = _core.Cache(stack, 1)
        run([first], cache)
        with open("/proc/self/statm") as pages:
            used = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (40 << 20), -1))
        try:
            run([one[:290]], cache)
        except MemoryError:
            print("failed")
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        cache.select([0, 0])
        for got, full in zip(run([one, other], cache), want):
            print(got.tobytes() == full.tobytes())
    """
    assert in_a_subprocess(code).split() == ["failed", "True", "True"]
