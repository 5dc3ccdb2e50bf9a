"""A small Transformer that PyTorch trained to sort digits (golden/make_sorter.py) sorts here, greedily and by beam."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from closeness import assert_same_bits
from tfcore import nn

START, END, VOCABULARY, WIDTH = 10, 11, 12, 32


class Sorter:
    """Digits in, the same digits in order out; END ends both."""

    def __init__(self, state):
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.SinusoidalPositions(WIDTH)
        self.transformer = nn.Transformer(WIDTH, 4, 1, 1, 64, norm_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        for name in ("embedding", "transformer", "head"):
            getattr(self, name).load_state_dict(state, prefix=f"{name}.")

    def encode(self, texts):
        """Texts of digits → the memory, and True where it is padding."""
        ids = np.full((len(texts), max(map(len, texts)) + 1), END)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = text
        padding = np.arange(ids.shape[1]) > np.array([[len(text)] for text in texts])
        return self.transformer.encode(self.embed(ids), src_key_padding_mask=padding), padding

    def embed(self, ids, offset=0):
        return self.positions(self.embedding(ids), offset)

    def step(self, tokens, memory, padding, cache):
        """The log-probabilities of what follows (B, L) tokens: (B, L, V)."""
        x = self.embed(tokens, cache.length)
        logits = self.head(self.transformer.decode(x, memory, memory_key_padding_mask=padding, cache=cache))
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.fixture(scope="module")
def sorter():
    with np.load(Path(__file__).parent / "golden" / "sorter.npz") as state:
        return Sorter(state)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 10, rng.integers(1, 13)).tolist() for _ in range(60)]


def greedy(sorter, texts, longest=14):
    """The likeliest token at every step, for all texts at once; finished ones leave the batch."""
    memory, padding = sorter.encode(texts)
    cache, written = nn.KVCache(), [[] for _ in texts]
    going, tokens = np.arange(len(texts)), np.full((len(texts), 1), START)
    for _ in range(longest):
        tokens = sorter.step(tokens, memory, padding, cache).argmax(axis=-1)
        goes_on = np.flatnonzero(tokens[:, 0] != END)
        going, tokens, memory, padding = (array[goes_on] for array in (going, tokens, memory, padding))
        if not len(going):
            break
        cache.select(goes_on)
        for text, token in zip(going, tokens[:, 0], strict=True):
            written[text].append(int(token))
    return written


def beam(sorter, text, width=4, longest=14):
    """The likeliest texts that end, best first: (log-probability, tokens)."""
    memory, padding = sorter.encode([text])
    cache, found = nn.KVCache(), []
    hypotheses, scores = [[START]], np.zeros(1)
    for _ in range(longest):
        last = [[tokens[-1]] for tokens in hypotheses]
        one_each = np.repeat(padding, len(last), axis=0)
        memory_each = None if cache.length else memory  # the cache has seen it
        total = scores[:, None] + sorter.step(last, memory_each, one_each, cache)[:, -1]
        best = np.argsort(-total, axis=None, kind="stable")[: 2 * width]
        choices = [(total[at], *at) for at in zip(*np.unravel_index(best, total.shape), strict=True)]
        found += [(score, hypotheses[row][1:]) for score, row, token in choices if token == END]
        choices = [choice for choice in choices if choice[2] != END][:width]
        ended = sorted((score for score, _ in found), reverse=True)
        if len(ended) >= width and ended[width - 1] >= choices[0][0]:  # what goes on can only become less likely
            break
        hypotheses = [[*hypotheses[row], int(token)] for _, row, token in choices]
        scores = np.array([score for score, _, _ in choices])
        cache.select([row for _, row, _ in choices])
    return sorted(found, key=lambda item: -item[0])[:width]


def test_it_sorts_greedily(sorter, texts):
    assert greedy(sorter, texts) == [sorted(text) for text in texts]


def test_a_text_alone_is_sorted_as_among_others(sorter, texts):
    for text in texts[:5]:
        assert greedy(sorter, [text]) == [sorted(text)]


def test_it_sorts_by_beam(sorter, texts):
    for text in texts[:20]:
        results = beam(sorter, text)
        assert results[0][1] == sorted(text)
        assert len(results) == 4
        assert len({tuple(tokens) for _, tokens in results}) == len(results), "a hypothesis was found twice"


def test_a_beam_knows_what_its_hypotheses_are_worth(sorter, texts):
    """After all its selecting of rows, the score is the sum of what one call over the whole text gives."""
    for text in texts[:5]:
        for score, tokens in beam(sorter, text):
            memory, padding = sorter.encode([text])
            whole = sorter.step([[START, *tokens]], memory, padding, nn.KVCache())[0]
            picked = whole[np.arange(len(tokens) + 1), [*tokens, END]]
            total = np.zeros((), whole.dtype).astype(np.float64)
            for value in picked:
                total = total + value
            assert_same_bits(np.asarray(score), np.asarray(total))
