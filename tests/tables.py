"""A language model of two tables, small enough to read, and what tests and golden/make_generation.py ask of it.

The scores of the next token are AFTER[last] + BEFORE[the one before it]: exact in float32, so that NumPy and torch
start from the same bits. Token PAD is next to impossible, so that padding can be told from text.
"""

from __future__ import annotations

import numpy as np

PAD = 23
V = 24

_RNG = np.random.Generator(np.random.PCG64(20))
AFTER = (2.0 * _RNG.standard_normal((V, V))).astype(np.float32)
BEFORE = (1.5 * _RNG.standard_normal((V, V))).astype(np.float32)
AFTER[:, PAD] = -60
AFTER[21, 22] = 9  # the first half of a character is mostly followed by the second

# What each token writes; the two last before PAD are the halves of one character.
BYTES = [b"a", b"b", b"c", b"d", b"e", b"f", b" ", b"\n", b"the", b" cat", b"at", b"st", b"op", b"stop", b"per"]
BYTES += [b"la", b"!", b"? ", b"Hi", b" and", b"x", b"\xc3", b"\xa4", b""]

PROMPTS = [[5], [1, 2, 3], [11, 4, 9, 15, 6, 17], [8, 9]]

_BEAMS = {"num_beams": 4, "num_return_sequences": 3, "max_new_tokens": 10}
_ENDS = {"eos_token_id": [3, 12]}

CASES: dict[str, dict] = {
    "greedy": {"max_new_tokens": 12},
    "greedy by default": {},
    "one token": {"max_new_tokens": 1},
    "an end token": {"max_new_tokens": 30, "eos_token_id": 12},
    "several end tokens": {"max_new_tokens": 30, "eos_token_id": [3, 12, 20]},
    "least new tokens": {"max_new_tokens": 12, "min_new_tokens": 6, "eos_token_id": [3, 12, 20, 0, 1, 14]},
    "least length": {"max_length": 14, "min_length": 8, "eos_token_id": [3, 12, 20, 0, 1, 14]},
    "most length": {"max_length": 9},
    "repetition": {"max_new_tokens": 15, "repetition_penalty": 1.4},
    "repetition rewarded": {"max_new_tokens": 15, "repetition_penalty": 0.6},
    "no token twice": {"max_new_tokens": 12, "no_repeat_ngram_size": 1},
    "no pair twice": {"max_new_tokens": 40, "no_repeat_ngram_size": 2},
    "no three twice": {"max_new_tokens": 40, "no_repeat_ngram_size": 3},
    "bad words": {"max_new_tokens": 20, "bad_words_ids": [[10], [4, 8], [16, 2, 7], [12]], "eos_token_id": 12},
    "suppressed": {"max_new_tokens": 15, "suppress_tokens": [0, 4, 10, 14], "begin_suppress_tokens": [1, 2, 5, 6, 7]},
    "suppressed after the forced": {
        "max_new_tokens": 6,
        "forced_bos_token_id": 17,
        "begin_suppress_tokens": [0, 5, 20, 21],
    },
    "forced": {"max_new_tokens": 8, "forced_bos_token_id": 17, "forced_eos_token_id": 12, "eos_token_id": 12},
    "all at once": {
        "max_new_tokens": 25,
        "min_new_tokens": 10,
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[10], [4, 8]],
        "suppress_tokens": [1],
        **_ENDS,
    },
    "beams": _BEAMS,
    "beams that end": {**_BEAMS, **_ENDS},
    "beams that end early": {**_BEAMS, **_ENDS, "early_stopping": True},
    "beams that never give up": {**_BEAMS, **_ENDS, "early_stopping": "never", "length_penalty": 2.0},
    "beams for short texts": {**_BEAMS, **_ENDS, "length_penalty": -1.0},
    "beams for short texts that never give up": {
        **_BEAMS,
        "num_return_sequences": 4,
        "eos_token_id": [1, 4, 20],
        "length_penalty": -0.5,
        "early_stopping": "never",
    },
    "beams of many ends": {**_BEAMS, "num_beams": 3, "eos_token_id": [*range(13), 16, 20], "early_stopping": "never"},
    "beams by probability": {**_BEAMS, **_ENDS, "length_penalty": 0.0, "early_stopping": "never"},
    "beams for long texts": {**_BEAMS, **_ENDS, "length_penalty": 3.0, "early_stopping": True},
    "beams of one end token": {**_BEAMS, "eos_token_id": 12, "num_return_sequences": 1},
    "beams with penalties": {**_BEAMS, **_ENDS, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "beams of a translator": {
        **_BEAMS,
        "eos_token_id": 12,
        "bad_words_ids": [[PAD], [4]],
        "forced_eos_token_id": 12,
        "renormalize_logits": True,
        "min_length": 4,
    },
    "beams of a summarizer": {
        "num_beams": 3,
        "max_length": 16,
        "min_length": 9,
        "no_repeat_ngram_size": 3,
        "length_penalty": 2.0,
        "early_stopping": True,
        "eos_token_id": 12,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 12,
    },
    "two beams": {"num_beams": 2, "max_new_tokens": 1, "num_return_sequences": 2},
    "stop string within two tokens": {"max_new_tokens": 40, "stop_strings": "opp"},
    "stop strings": {"max_new_tokens": 40, "stop_strings": ["d!d!d", "? ac", "\n an", "dx"]},
    "stop string begun in the prompt": {"max_new_tokens": 40, "stop_strings": ["f", "cd!", "? acop"]},
    "stop string inside a token": {"max_new_tokens": 40, "stop_strings": ["an", "!"]},
    "stop at a split character": {"max_new_tokens": 60, "stop_strings": ["ä", "!d!d!d!d"]},
    "beams that stop": {**_BEAMS, "stop_strings": ["at", "op", "er"]},
}


def logits(tokens: np.ndarray) -> np.ndarray:
    """(V,), after the tokens (L,) of one sequence."""
    return AFTER[tokens[-1]] + BEFORE[tokens[-2]] if len(tokens) > 1 else AFTER[tokens[-1]].copy()


def decode(tokens) -> str:
    return b"".join(BYTES[token] for token in tokens).decode("utf-8", errors="replace")


class TableSession:
    """The model as a session that remembers how many sequences each step had."""

    def __init__(self, scores=logits) -> None:
        self.scores = scores
        self.rows: list[np.ndarray] | None = None
        self.sizes: list[int] = []

    def step(self, tokens):
        rows = [np.empty(0, np.int64)] * len(tokens) if self.rows is None else self.rows
        assert len(tokens) == len(rows)
        assert all(len(new) for new in tokens)
        self.rows = [np.concatenate([row, new]) for row, new in zip(rows, tokens, strict=True)]
        self.sizes.append(len(tokens))
        return np.stack([self.scores(row) for row in self.rows])

    def select(self, parents):
        self.rows = [self.rows[parent] for parent in parents]
