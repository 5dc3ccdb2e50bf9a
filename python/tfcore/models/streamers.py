"""Streamers for `generate`, as Transformers has them: text on the screen, or to iterate over, while it is written."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from .text_stream import TextStream
from .tokenizer import Tokenizer


class TextStreamer:
    """Prints a text as it is written.

    >>> streamer = TextStreamer(tokenizer)  # doctest: +SKIP
    >>> streamer.put(tokenizer.encode("transformers understand", add_special_tokens=False))  # doctest: +SKIP
    transformers understand

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer that made the ids.
    skip_prompt : bool
        Leave out the text that `generate` was given.
    skip_special_tokens : bool
        Leave out special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, skip_prompt: bool = False, *, skip_special_tokens: bool = False) -> None:
        self._stream = TextStream(tokenizer, skip_special_tokens)
        self._skip_prompt = skip_prompt
        self._begins = True

    def put(self, value: Any) -> None:
        """Takes the prompt, and then each step's token.

        Raises
        ------
        ValueError
            They are of several texts.
        """
        ids = np.atleast_1d(np.asarray(value))
        if (ids.ndim > 1 and len(ids) > 1) or (not self._begins and ids.size > 1):
            raise ValueError("a streamer was given several texts, expected one: generate with a batch of one")
        prompt, self._begins = self._begins, False
        text = "" if prompt and self._skip_prompt else self._stream.put(ids.ravel())
        if text:
            self.on_finalized_text(text)

    def end(self) -> None:
        """Hears that the text has ended."""
        self._begins = True
        self.on_finalized_text(self._stream.end(), stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """What is done with each piece of text: a subclass may do something else."""
        print(text, flush=True, end="\n" if stream_end else "")


class TextIteratorStreamer(TextStreamer):
    """A text as it is written, to iterate over, while `generate` runs on another thread.

    >>> ids = tokenizer("The capital of France is", return_tensors="np").input_ids  # doctest: +SKIP
    >>> streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)  # doctest: +SKIP
    >>> settings = {"streamer": streamer, "max_new_tokens": 2}  # doctest: +SKIP
    >>> Thread(target=model.generate, args=(ids,), kwargs=settings).start()  # doctest: +SKIP
    >>> list(streamer)  # doctest: +SKIP
    [' Paris', '.', '']

    Parameters
    ----------
    tokenizer, skip_prompt, skip_special_tokens
        As of `TextStreamer`.
    timeout : float, optional
        Seconds to wait for a piece, before `queue.Empty` is raised. Default: as long as it takes.
    """

    def __init__(
        self, tokenizer: Tokenizer, skip_prompt: bool = False, timeout: float | None = None, **options: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **options)
        self._timeout = timeout
        self._pieces: queue.Queue[str | None] = queue.Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Puts a piece where the iteration finds it."""
        self._pieces.put(text)
        if stream_end:
            self._pieces.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = self._pieces.get(timeout=self._timeout)
        if piece is None:
            raise StopIteration
        return piece
