"""Beam search: at each step the best continuations of the best unfinished texts of a prompt.

K beams, V tokens. A search keeps K texts that run and the K best that have ended. Each step takes the best
max(2, 1 + end tokens) * K continuations of what runs, so that K are left even if every beam could end: those that end
and are among the first K compete for a place among the finished, by log-probability / length ** length_penalty; the
best K that do not end run on. These rules, and float32 as the arithmetic, are those of Transformers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .logits import Change, Lengths, changes, normalize
from .loop import alter, checked, random_stream, refuse
from .options import GenerationOptions
from .protocol import Float32Array, IntArray, Session
from .sampling import candidates, cooled, draw_several, largest
from .stopping import Stopping

_NEVER = np.float32(-1e9)  # below the score of any text, and still a number that can be compared


class Search:
    """The beams of one prompt."""

    def __init__(
        self, prompt: IntArray, options: GenerationOptions, stopping: Stopping, rng: np.random.Generator | None
    ) -> None:
        beams = options.num_beams
        self._options, self._stopping, self._rng = options, stopping, rng
        self._considered = max(2, 1 + len(options.end_tokens)) * beams
        self.lengths = Lengths(len(prompt), options.least(len(prompt)), options.limit(len(prompt)))
        self.tokens = np.tile(prompt, (beams, 1))  # (K, L), of those that run
        self.parents = np.arange(beams)  # the beam of the step before that each continues
        self._scores = np.full(beams, _NEVER)
        self._scores[0] = 0  # the beams begin equal: all but one are left out, or each continuation came K times
        self._finished = [prompt] * beams
        self._finished_scores = np.full(beams, _NEVER)
        self._is_finished = np.zeros(beams, np.bool_)
        self.ended = self.lengths.most == len(prompt)

    def best(self, count: int) -> tuple[list[IntArray], Float32Array]:
        """The `count` best texts, and their scores."""
        return self._finished[:count], self._finished_scores[:count]

    def advance(self, scores: Float32Array) -> None:
        """Goes on by one token, given the logarithms of probabilities (K, V) of the next; overwrites them."""
        scores += self._scores[:, None]
        places = self._continuations(scores)
        reached = scores.ravel()[places]
        if not np.isfinite(reached[0]):
            refuse(float(reached[0]), self.tokens.shape[1])
        beams, tokens = places // scores.shape[1], places % scores.shape[1]
        most = self.lengths.most
        ends = np.array(
            [
                self._stopping.ends(self.tokens[beam], int(token), most)
                for beam, token in zip(beams, tokens, strict=True)
            ]
        )
        self._finish(reached, ends, beams, tokens)
        self._run_on(reached, ends, beams, tokens)
        full = bool(self._is_finished.all()) and self._options.early_stopping is True
        self.ended = full or bool(ends.all()) or not self._may_be_beaten()

    def _continuations(self, scores: Float32Array) -> IntArray:
        """Places in the flat (K * V) scores of what is considered, drawn or best first.

        Where fewer can be drawn than there are beams, impossible ones fill these.
        """
        count = min(self._considered, scores.size)
        if self._rng is None:
            return largest(scores.ravel(), count)
        possible = scores.ravel() > -np.inf
        places = np.flatnonzero(possible)
        drawn = places[draw_several(scores.ravel()[places], min(count, len(places)), self._rng)]
        return np.concatenate([drawn, np.flatnonzero(~possible)[: count - len(drawn)]])

    def _finish(self, reached: Float32Array, ends: npt.NDArray[np.bool_], beams: IntArray, tokens: IntArray) -> None:
        count = len(self._finished)
        ended = ends & (np.arange(len(ends)) < count)
        length = self.tokens.shape[1] + 1 - self.lengths.prompt
        scores = reached / _power(length, self._options.length_penalty)
        scores += np.where(ended, np.float32(0), _NEVER)
        merged = np.concatenate([self._finished_scores, scores])
        chosen = largest(merged, count)
        self._finished = [
            self._finished[i] if i < count else np.append(self.tokens[beams[i - count]], tokens[i - count])
            for i in chosen.tolist()
        ]
        self._finished_scores = merged[chosen]
        self._is_finished = np.concatenate([self._is_finished, ended])[chosen]

    def _run_on(self, reached: Float32Array, ends: npt.NDArray[np.bool_], beams: IntArray, tokens: IntArray) -> None:
        scores = reached + np.where(ends, _NEVER, np.float32(0))
        chosen = largest(scores, len(self._finished))
        self._scores, self.parents = scores[chosen], beams[chosen]
        self.tokens = np.concatenate([self.tokens[self.parents], tokens[chosen, None]], axis=1)

    def _may_be_beaten(self) -> bool:
        """Whether the best that runs could end better than the worst that has ended."""
        penalty = self._options.length_penalty
        to_the_end = self._options.early_stopping == "never" and penalty > 0
        length = (self.lengths.most if to_the_end else self.tokens.shape[1]) - self.lengths.prompt
        hoped = self._scores[:1] / _power(length, penalty)
        worst = self._finished_scores.min() if self._is_finished.all() else _NEVER
        return bool(hoped[0] > worst)


def beam_search(
    session: Session, prompts: Sequence[IntArray], options: GenerationOptions, stopping: Stopping
) -> list[Search]:
    """A search to each prompt, carried to its end."""
    entropy = np.random.SeedSequence(options.seed).entropy
    searches = [
        Search(prompt, options, stopping, random_stream(entropy, row) if options.do_sample else None)
        for row, prompt in enumerate(prompts)
    ]
    beams = options.num_beams
    live = [search for search in searches if not search.ended]
    if not live:
        return searches
    logits = checked(session.step(prompts), len(prompts))
    sources = np.repeat(np.arange(len(prompts)), beams)  # the session's sequence of each beam: at first one a prompt
    held, logits = len(prompts), logits[sources]
    change = changes(options)
    while True:
        _advance(live, logits, options, change)
        kept = [beams * place + search.parents for place, search in enumerate(live) if not search.ended]
        live = [search for search in live if not search.ended]
        if not live:
            return searches
        parents = sources[np.concatenate(kept)]
        if not np.array_equal(parents, np.arange(held)):
            session.select(parents)
        newest = np.concatenate([search.tokens[:, -1] for search in live])
        held, sources = len(newest), np.arange(len(newest))
        logits = checked(session.step(list(newest[:, None])), held)


def _advance(live: list[Search], logits: Float32Array, options: GenerationOptions, change: list[Change]) -> None:
    for search, beams in zip(live, np.split(logits, len(live)), strict=True):
        for scores, tokens in zip(beams, search.tokens, strict=True):
            normalize(scores)
            if np.isnan(scores[0]):
                refuse(float("nan"), len(tokens))
            alter(scores, tokens, search.lengths, change)
            if scores.max() > -np.inf:  # there is something to choose
                if options.do_sample:
                    _keep_candidates(scores, options)
                if options.renormalize_logits:
                    normalize(scores)
        search.advance(beams)


def _keep_candidates(scores: Float32Array, options: GenerationOptions) -> None:
    """Rules out all that sampling leaves out; the temperature scales what is left."""
    at_least = max(2, len(options.end_tokens) + 1)
    tokens, _ = candidates(scores, options, at_least)
    kept = cooled(scores[tokens], options.temperature)
    scores.fill(-np.inf)
    scores[tokens] = kept


def _power(length: int, penalty: float) -> np.float32:
    with np.errstate(over="ignore"):
        power: np.float32 = (np.float64(length) ** penalty).astype(np.float32)
    return power
