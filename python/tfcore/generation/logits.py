"""What options do to the scores of the next token before one is chosen: penalties, bans and forced tokens.

Each change is a function of one sequence's scores (V,), which it alters in place, the sequence's tokens (L,) so far
and its `Lengths`. Their order is that of Transformers: repetition, n-grams, bad words, least length, forced tokens,
suppressed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from .. import _core
from .options import GenerationOptions
from .protocol import Float32Array, IntArray


class Lengths(NamedTuple):
    """Of one sequence, all counted from its first token."""

    prompt: int
    least: int  # no end token before
    most: int


Change = Callable[[Float32Array, IntArray, Lengths], None]


def changes(options: GenerationOptions) -> list[Change]:
    """What `options` ask for, in order; nothing where they ask for nothing."""
    ends = _ids(options.end_tokens)
    wanted: list[Change] = []
    if options.repetition_penalty != 1:
        wanted.append(partial(_penalize_repetition, options.repetition_penalty))
    if options.no_repeat_ngram_size:
        wanted.append(partial(_ban_repeated_ngrams, options.no_repeat_ngram_size))
    words = [_ids(word) for word in options.bad_words_ids or () if not (len(word) == 1 and word[0] in ends)]
    if words:
        wanted.append(partial(_ban_words, words))
    if len(ends) and (options.min_length or options.min_new_tokens):
        wanted.append(partial(_ban_early_end, ends))
    if options.forced_bos_token_id is not None:
        wanted.append(partial(_force_first, _ids([options.forced_bos_token_id])))
    if options.forced_eos_token_id:
        wanted.append(partial(_force_last, _ids(options.forced_eos_token_id)))
    if options.suppress_tokens:
        wanted.append(partial(_ban, _ids(options.suppress_tokens)))
    if options.begin_suppress_tokens:
        after_forced = options.forced_bos_token_id is not None
        wanted.append(partial(_ban_at_begin, _ids(options.begin_suppress_tokens), after_forced))
    return wanted


def normalize(scores: Float32Array) -> None:
    """Turns scores (..., V) into logarithms of probabilities, in place; where there are none, into NaN."""
    _core.log_softmax(scores, -1, scores)


def _ids(tokens: int | Sequence[int]) -> IntArray:
    return np.atleast_1d(np.array(tokens, np.int64))


def _penalize_repetition(penalty: float, scores: Float32Array, tokens: IntArray, _: Lengths) -> None:
    seen = tokens[tokens < len(scores)]  # an embedding may know more tokens than the head
    old = scores[seen]
    factor = np.float32(min(max(penalty, 1e-30), 1e30))  # that float32 can hold, and a logit times it
    with np.errstate(over="ignore"):
        scores[seen] = np.where(old < 0, old * factor, old / factor)


def _ban_repeated_ngrams(size: int, scores: Float32Array, tokens: IntArray, _: Lengths) -> None:
    starts = len(tokens) - size + 1  # of the n-grams there are
    if starts <= 0:
        return
    same = np.ones(starts, np.bool_)
    for offset in range(size - 1):
        same &= tokens[offset : offset + starts] == tokens[starts + offset]
    _ban(tokens[size - 1 :][same], scores, tokens, _)


def _ban_words(words: list[IntArray], scores: Float32Array, tokens: IntArray, _: Lengths) -> None:
    for word in words:
        before = word[:-1]
        if len(before) <= len(tokens) and np.array_equal(tokens[len(tokens) - len(before) :], before):
            _ban(word[-1:], scores, tokens, _)


def _ban_early_end(ends: IntArray, scores: Float32Array, tokens: IntArray, lengths: Lengths) -> None:
    if len(tokens) < lengths.least:
        _ban(ends, scores, tokens, lengths)


def _force_first(forced: IntArray, scores: Float32Array, tokens: IntArray, _: Lengths) -> None:
    if len(tokens) == 1:
        _check_forced("forced_bos_token_id", forced, scores)
        _allow_only(forced, scores)


def _force_last(forced: IntArray, scores: Float32Array, tokens: IntArray, lengths: Lengths) -> None:
    _check_forced("forced_eos_token_id", forced, scores)  # at every step: not after all the others are done
    if len(tokens) == lengths.most - 1:
        _allow_only(forced, scores)


def _ban_at_begin(
    banned: IntArray, after_forced: bool, scores: Float32Array, tokens: IntArray, lengths: Lengths
) -> None:
    begin = lengths.prompt + (after_forced and lengths.prompt == 1)
    if len(tokens) == begin:
        _ban(banned, scores, tokens, lengths)


def _ban(banned: IntArray, scores: Float32Array, tokens: IntArray, _: Lengths) -> None:
    scores[banned[banned < len(scores)]] = -np.inf  # what the model has no score for cannot come anyway


def _check_forced(name: str, forced: IntArray, scores: Float32Array) -> None:
    if forced.max() >= len(scores):
        raise ValueError(f"{name} is {forced.max()}, expected a token below {len(scores)}, the model's number of them")


def _allow_only(forced: IntArray, scores: Float32Array) -> None:
    scores.fill(-np.inf)
    scores[forced] = 0
