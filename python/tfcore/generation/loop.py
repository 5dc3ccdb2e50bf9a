"""The loop that writes: one token to each unfinished text a step, the best or a drawn one.

Prompts of different length need no padding: a session's first step takes each whole. A text that has ended leaves the
session, so that no work is done on it, and each draws from a random stream of its own, so that what it says does not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .logits import Change, Lengths, changes, normalize
from .options import GenerationOptions
from .protocol import Float32Array, IntArray, Session
from .sampling import draw
from .stopping import Stopping


class Step(NamedTuple):
    """What one step of the loop added: a token (n,) to each of the texts still unfinished, `rows` (n,)."""

    rows: IntArray
    tokens: IntArray


class Text:
    """One text as it grows: its tokens, the limits on it, the logarithm of its probability and its random stream."""

    def __init__(self, prompt: IntArray, options: GenerationOptions, rng: np.random.Generator | None) -> None:
        length = len(prompt)
        self.lengths = Lengths(length, options.least(length), options.limit(length))
        self.log_probability = 0.0
        self.rng = rng
        self.ended = self.lengths.most == length
        self._length = length
        self._buffer = np.concatenate([prompt, np.empty(min(self.lengths.most - length, 64), np.int64)])

    @property
    def tokens(self) -> IntArray:
        """(L,): the prompt and what was added."""
        return self._buffer[: self._length]

    def append(self, token: int) -> None:
        if self._length == len(self._buffer):
            self._buffer = np.concatenate([self._buffer, np.empty_like(self._buffer)])
        self._buffer[self._length] = token
        self._length += 1


def texts(prompts: Sequence[IntArray], options: GenerationOptions) -> list[Text]:
    """`num_return_sequences` texts to each prompt, one after another."""
    if not options.do_sample:
        return [Text(prompt, options, None) for prompt in prompts]
    seed = seed_of(options)
    return [
        Text(prompt, options, random_stream(seed, row, copy))
        for row, prompt in enumerate(prompts)
        for copy in range(options.num_return_sequences)
    ]


def seed_of(options: GenerationOptions) -> int:
    """What all random numbers of a call follow from: where nothing is said, what NumPy's global state gives."""
    if options.seed is not None:
        return options.seed
    return int.from_bytes(np.random.bytes(16), "little")  # noqa: NPY002 (it is what `np.random.seed` sets)


def set_seed(seed: int) -> None:
    """What texts drawn from here on follow from, where `generate` is given no seed of its own: NumPy's global state.

    >>> set_seed(42)
    """
    np.random.seed(seed)  # noqa: NPY002


def random_stream(seed: int, *place: int) -> np.random.Generator:
    """The random numbers that belong to a place, such as a row of the batch, and to no other."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=place)))


def write(
    session: Session,
    prompts: Sequence[IntArray],
    written: list[Text],
    options: GenerationOptions,
    stopping: Stopping,
    *,
    score: bool,
) -> Iterator[Step]:
    """Adds a token to each unfinished text at every step, and says which; the texts grow in place."""
    live = [row for row, text in enumerate(written) if not text.ended]
    if not live:
        return
    change = changes(options)
    logits = checked(session.step(prompts), len(prompts))
    copies = len(written) // len(prompts)
    if copies > 1:
        parents = np.repeat(np.arange(len(prompts)), copies)
        session.select(parents)
        logits = logits[parents]
    while True:
        tokens = _choose(logits, [written[row] for row in live], options, change, score=score)
        for row, token in zip(live, tokens.tolist(), strict=True):
            text = written[row]
            text.ended = stopping.ends(text.tokens, token, text.lengths.most)
            text.append(token)
        yield Step(np.array(live), tokens.copy())
        going = np.array([place for place, row in enumerate(live) if not written[row].ended], np.int64)
        if not len(going):
            return
        if len(going) < len(live):
            session.select(going)
            live, tokens = [live[place] for place in going], tokens[going]
        logits = checked(session.step(list(tokens[:, None])), len(live))


def checked(logits: Float32Array, sequences: int) -> Float32Array:
    """A session's logits, if they are what the protocol says.

    Raises
    ------
    TypeError, ValueError
        They are not float32, or not (B, V).
    """
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32:
        raise TypeError(f"the session's step returned {_kind(logits)}, expected a float32 array")
    if logits.ndim != 2 or len(logits) != sequences or not logits.shape[1]:
        raise ValueError(f"the session's step returned logits of shape {logits.shape}, expected ({sequences}, V)")
    return logits if logits.flags.writeable else logits.copy()


def alter(scores: Float32Array, tokens: IntArray, lengths: Lengths, change: list[Change]) -> None:
    """Applies all changes to one sequence's scores (V,), in place."""
    for one in change:
        one(scores, tokens, lengths)


def refuse(score: float, length: int) -> None:
    """Ends generation where a sequence's best score is no number to go on.

    Raises
    ------
    ValueError
        There is a NaN among the scores, or infinity, or nothing but minus infinity.
    """
    if score == -np.inf:
        raise ValueError(f"no token is possible at place {length}: the options or the model rule out all of them")
    raise ValueError(f"the best logit at place {length} is {score}, expected a finite number")


def _choose(
    logits: Float32Array, live: list[Text], options: GenerationOptions, change: list[Change], *, score: bool
) -> IntArray:
    if change:
        for scores, text in zip(logits, live, strict=True):
            alter(scores, text.tokens, text.lengths, change)
    best: IntArray = logits.argmax(axis=1).astype(np.int64, copy=False)  # a NaN counts as the largest
    scores_of_best = logits[np.arange(len(live)), best]
    if not np.isfinite(scores_of_best).all():
        place = int(np.argmin(np.isfinite(scores_of_best)))
        refuse(float(scores_of_best[place]), len(live[place].tokens))
    if not options.do_sample:
        if score:
            normalize(logits)
            for text, scores, token in zip(live, logits, best, strict=True):
                text.log_probability += float(scores[token])
        return best
    return np.array([_draw(scores, text, options) for scores, text in zip(logits, live, strict=True)], np.int64)


def _draw(scores: Float32Array, text: Text, options: GenerationOptions) -> int:
    assert text.rng is not None
    token, log_probability = draw(scores, options, text.rng)
    text.log_probability += log_probability
    return token


def _kind(value: object) -> str:
    return f"{value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
