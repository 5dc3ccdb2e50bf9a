"""`generate` and `stream`: prompts in, texts out, all at once or token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .beam import beam_search
from .loop import Step, texts, write
from .options import GenerationOptions
from .protocol import Decode, Float32Array, IntArray, Session, Streamer
from .stopping import Stopping

_NO_TOKEN = -1


@dataclass(frozen=True)
class Generated:
    """The texts of `generate`, `num_return_sequences` to a prompt, one after another.

    Attributes
    ----------
    sequences
        R arrays (L_r,): prompt and continuation, nothing padded.
    scores
        (R,), where asked for: of beams the score they were ranked by, of others the logarithm of the continuation's
        probability, as altered and filtered by the options.
    """

    sequences: list[IntArray]
    scores: Float32Array | None = None


def generate(
    session: Session,
    prompts: Sequence[npt.ArrayLike],
    options: GenerationOptions,
    *,
    streamer: Streamer | Callable[[IntArray], Any] | None = None,
    decode: Decode | None = None,
    return_scores: bool = False,
) -> Generated:
    """Continues every prompt until it ends.

    >>> import numpy as np
    >>> class Counting:
    ...     def step(self, tokens):
    ...         return np.eye(10, dtype=np.float32)[[(last[-1] + 1) % 10 for last in tokens]]
    ...     def select(self, parents):
    ...         pass
    >>> options = GenerationOptions(max_new_tokens=4, eos_token_id=5)
    >>> [text.tolist() for text in generate(Counting(), [[3], [0, 7]], options).sequences]
    [[3, 4, 5], [0, 7, 8, 9, 0, 1]]

    Parameters
    ----------
    session
        As many sequences as there are prompts, all empty; afterwards it holds what was unfinished last.
    prompts
        P of them, (L_p,), of at least one token each; of an encoder-decoder model the decoder's first tokens.
    streamer
        Hears of each token as it comes: an object as in Transformers, or a function of the tokens (R,) of a step. Where
        a text has ended it hears the padding token, or else the first end token, or else -1. When generation ends or
        fails, also by Ctrl-C, the object's `end` is called.
    decode
        Token ids to text, for stop strings.
    return_scores
        Whether to keep the texts' scores.

    Raises
    ------
    TypeError, ValueError
        A prompt is empty, too long or not of integers; `streamer` is neither of these, or comes with beams; stop
        strings without `decode`; a NaN or infinity among the logits, or options that leave no token to choose.
    """
    starts = _checked_prompts(prompts)
    stopping = Stopping(options, decode)
    if not (streamer is None or callable(streamer) or isinstance(streamer, Streamer)):
        raise TypeError(f"streamer is of {type(streamer).__name__}, expected a function or an object with put and end")
    if options.num_beams > 1:
        if streamer is not None:
            raise ValueError(
                f"streamer with num_beams {options.num_beams}, expected 1: beams have no text before the end"
            )
        best = [search.best(options.num_return_sequences) for search in beam_search(session, starts, options, stopping)]
        scores = np.concatenate([np.empty(0, np.float32), *(score for _, score in best)])
        return Generated([text.copy() for some, _ in best for text in some], scores if return_scores else None)
    written = texts(starts, options)
    steps = write(session, starts, written, options, stopping, score=return_scores)
    if streamer is None:
        for _ in steps:
            pass
    else:
        _tell(streamer, [text.tokens for text in written], steps, _filler(options))
    scores = np.array([text.log_probability for text in written], np.float32)
    return Generated([text.tokens.copy() for text in written], scores if return_scores else None)


def stream(
    session: Session,
    prompts: Sequence[npt.ArrayLike],
    options: GenerationOptions,
    *,
    decode: Decode | None = None,
) -> Iterator[Step]:
    """Continues every prompt and yields each step's tokens as they come; it may be left at any step.

    >>> import numpy as np
    >>> class Counting:
    ...     def step(self, tokens):
    ...         return np.eye(10, dtype=np.float32)[[(last[-1] + 1) % 10 for last in tokens]]
    ...     def select(self, parents):
    ...         pass
    >>> for step in stream(Counting(), [[3], [7]], GenerationOptions(max_new_tokens=3, eos_token_id=5)):
    ...     print(step.rows, step.tokens)
    [0 1] [4 8]
    [0 1] [5 9]
    [1] [0]

    Parameters
    ----------
    session, prompts, decode
        As in `generate`.

    Raises
    ------
    TypeError, ValueError
        As in `generate`, and where `options` ask for beams: these have no text before the end.
    """
    if options.num_beams > 1:
        raise ValueError(f"num_beams is {options.num_beams}, expected 1: beams have no text before the end")
    starts = _checked_prompts(prompts)
    return write(session, starts, texts(starts, options), options, Stopping(options, decode), score=False)


def _checked_prompts(prompts: Sequence[npt.ArrayLike]) -> list[IntArray]:
    return [_checked_prompt(row, np.asarray(prompt)) for row, prompt in enumerate(prompts)]


def _checked_prompt(row: int, prompt: npt.NDArray[Any]) -> IntArray:
    if prompt.ndim != 1 or not len(prompt):
        raise ValueError(f"prompts[{row}] has shape {prompt.shape}, expected (L,) with at least one token")
    if prompt.dtype.kind not in "iu":
        raise TypeError(f"prompts[{row}] is of {prompt.dtype}, expected integers")
    if prompt.min() < 0:
        raise ValueError(f"prompts[{row}] holds token {prompt.min()}, expected none below 0")
    return prompt.astype(np.int64)


def _filler(options: GenerationOptions) -> int:
    """What a streamer hears of a text that has ended."""
    known = (options.pad_token_id, *options.end_tokens)
    return next((token for token in known if token is not None), _NO_TOKEN)


def _tell(
    streamer: Streamer | Callable[[IntArray], Any], starts: list[IntArray], steps: Iterator[Step], filler: int
) -> None:
    """Passes the prompts (R, L), padded on the left, and each step's tokens (R,) on to the streamer."""
    if not isinstance(streamer, Streamer):
        for step in steps:
            streamer(_spread(step, len(starts), filler))
        return
    try:
        longest = max((len(start) for start in starts), default=0)
        padded = np.full((len(starts), longest), filler)
        for row, start in zip(padded, starts, strict=True):
            row[longest - len(start) :] = start
        streamer.put(padded)
        for step in steps:
            streamer.put(_spread(step, len(starts), filler))
    finally:
        streamer.end()


def _spread(step: Step, rows: int, filler: int) -> IntArray:
    tokens = np.full(rows, filler)
    tokens[step.rows] = step.tokens
    return tokens
