"""Beam search: at each step the best continuations of the best unfinished texts of a prompt.

K beams, V tokens. A search keeps K texts that run and the K best that have ended. Each step takes the best
max(2, 1 + end tokens) * K continuations of what runs, so that K are left even if every beam could end: those that end
and are among the first K compete for a place among the finished, by log-probability / length ** length_penalty; the
best K that do not end run on. These rules, and float32 as the arithmetic, are those of Transformers.

Where fewer than K can run on, impossible texts fill up the others' places in the session: a score of minus infinity
tells them, whatever the scores of possible ones are, and they never become a result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .logits import Change, Lengths, changes, normalize
from .loop import alter, checked, random_stream, refuse, seed_of
from .options import GenerationOptions
from .protocol import Float32Array, IntArray, Session
from .sampling import candidates, cooled, draw_several, largest
from .stopping import Stopping

_LEAST = np.finfo(np.float32).tiny  # positive number that a score is divided by


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
        self._scores = np.full(beams, -np.inf, np.float32)
        self._scores[0] = 0  # the beams begin equal: all but one are left out, or each continuation came K times
        self.ended = self.lengths.most == len(prompt)
        self._finished = [prompt] if self.ended else []  # K at most, best first
        self._finished_scores = np.zeros(len(self._finished), np.float32)

    def best(self, count: int) -> tuple[list[IntArray], Float32Array]:
        """The `count` best texts, and their scores; where fewer were possible, the best again."""
        places = np.arange(count)
        places[len(self._finished) :] = 0
        return [self._finished[place] for place in places], self._finished_scores[places]

    def advance(self, scores: Float32Array) -> None:
        """Goes on by one token, given the logarithms of probabilities (K, V) of the next; overwrites them."""
        with np.errstate(over="ignore"):  # of scores over next to no temperature
            scores += self._scores[:, None]
        places = self._continuations(scores)
        reached = scores.ravel()[places]
        if self._finished and reached[0] == -np.inf:  # none can run on, and some have ended
            self.ended = True
            return
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
        full = self._is_full and self._options.early_stopping is True
        self.ended = full or bool(ends.all()) or not self._may_be_beaten()

    @property
    def _is_full(self) -> bool:
        return len(self._finished) == self._options.num_beams

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
        count = self._options.num_beams
        ended = np.flatnonzero(ends[:count] & (reached[:count] > -np.inf))
        length = self.tokens.shape[1] + 1 - self.lengths.prompt
        scores = np.concatenate([self._finished_scores, self._over_length(reached[ended], length)])
        texts = [*self._finished, *(np.append(self.tokens[beams[place]], tokens[place]) for place in ended)]
        chosen = largest(scores, count)
        self._finished = [texts[place] for place in chosen]
        self._finished_scores = scores[chosen]

    def _run_on(self, reached: Float32Array, ends: npt.NDArray[np.bool_], beams: IntArray, tokens: IntArray) -> None:
        scores = np.where(ends, np.float32(-np.inf), reached)
        chosen = largest(scores, self._options.num_beams)
        self._scores, self.parents = scores[chosen], beams[chosen]
        self.tokens = np.concatenate([self.tokens[self.parents], tokens[chosen, None]], axis=1)

    def _may_be_beaten(self) -> bool:
        """Whether the best that runs could end better than the worst that has ended, or be one of too few."""
        if self._scores[0] == -np.inf:  # none runs
            return False
        if not self._is_full:
            return True
        to_the_end = self._options.early_stopping == "never" and self._options.length_penalty > 0
        length = (self.lengths.most if to_the_end else self.tokens.shape[1]) - self.lengths.prompt
        hoped = self._over_length(self._scores[:1], length)
        return bool(hoped[0] > self._finished_scores[-1])

    def _over_length(self, scores: Float32Array, length: int) -> Float32Array:
        """What texts are ranked by; a power that float32 has no number for is taken for the nearest that it has."""
        with np.errstate(over="ignore"):
            power = (np.float64(length) ** self._options.length_penalty).astype(np.float32)
            ranked: Float32Array = scores / max(power, _LEAST)
        return ranked


def beam_search(
    session: Session, prompts: Sequence[IntArray], options: GenerationOptions, stopping: Stopping
) -> list[Search]:
    """A search to each prompt, carried to its end."""
    seed = seed_of(options) if options.do_sample else None
    searches = [
        Search(prompt, options, stopping, None if seed is None else random_stream(seed, row))
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
    normalize(logits)
    for search, beams in zip(live, np.split(logits, len(live)), strict=True):
        for scores, tokens in zip(beams, search.tokens, strict=True):
            if np.isnan(scores[0]):
                refuse(float("nan"), len(tokens))
            alter(scores, tokens, search.lengths, change)
            if (options.do_sample or options.renormalize_logits) and scores.max() > -np.inf:  # is there a choice?
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
