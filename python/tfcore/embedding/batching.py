"""From a stream of texts to passes of packed tokens, with the next texts tokenized while the core computes.

Texts are read in windows, tokenized a window at a time, sorted by length within it and packed up to a budget of
tokens. There is no padding, so sorting saves no arithmetic: it evens out the work of a pass's threads. What is held at
a time is two windows of tokens and one pass of hidden states, however many texts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..models.packing import IntArray, PackedTokens
from ..runtime import get_num_threads
from .report import Tally

_WINDOW = 1024  # texts
_FIRST_WINDOW = 64  # texts: the core is not to wait for the tokens of many
_WINDOW_CHARACTERS = 1 << 19  # a tokenizer takes some 40 bytes a character while it works
_TOKENS_A_THREAD = 1024  # of a pass: four times as many ran no faster (MiniLM, two cores) and took 30 MB more


class Tokenized(NamedTuple):
    """Texts' token ids, their token types if the model has any, which texts were cut, and how many of each text's first
    tokens are attended to, if not all."""

    ids: list[list[int]]
    types: list[list[int]] | None
    cut: list[int]
    seen: list[int] | None = None


class Window(NamedTuple):
    """Texts that are tokenized together, from row `first` of all on."""

    first: int
    texts: list[Any]


class Pass(NamedTuple):
    """Texts that run together: their rows among all, and their tokens."""

    rows: IntArray
    tokens: PackedTokens


def run_in_passes(
    texts: Iterable[Any],
    check: Callable[[int, Any], Any],
    tokenize: Callable[[Window], Tokenized],
    batch_size: int | None,
    tally: Tally,
) -> Iterator[Pass]:
    """All of this module: passes of the texts, whose tokens and cuts `tally` counts."""
    for window, tokens in tokenize_ahead(read_windows(texts, check), tokenize):
        tally.add(window.first, [len(ids) for ids in tokens.ids], tokens.cut)
        yield from passes(window.first, tokens, batch_size)


def prompted(prompt: str) -> Callable[[int, Any], str]:
    """A check of sentences, which puts a prompt before each."""

    def check(row: int, text: Any) -> str:
        if not isinstance(text, str):
            raise TypeError(f"sentences[{row}] is {type(text).__name__}, expected a string")
        return prompt + text

    return check


def read_windows(texts: Iterable[Any], check: Callable[[int, Any], Any]) -> Iterator[Window]:
    """Texts in windows, read as they are needed. `check` is given each row and text and returns what to tokenize."""
    window, characters, first, size = Window(0, []), 0, 0, _FIRST_WINDOW
    for row, text in enumerate(texts):
        text = check(row, text)
        window.texts.append(text)
        characters += len(text) if isinstance(text, str) else sum(map(len, text))
        if len(window.texts) == size or characters >= _WINDOW_CHARACTERS:
            yield window
            first, size = row + 1, _WINDOW
            window, characters = Window(first, []), 0
    if window.texts:
        yield window


def tokenize_ahead(
    windows: Iterator[Window], tokenize: Callable[[Window], Tokenized]
) -> Iterator[tuple[Window, Tokenized]]:
    """Each window with its tokens, the next one's being made on another thread while this one is used."""
    window, following = next(windows, None), next(windows, None)
    if window is None:
        return
    tokens = tokenize(window)
    if following is None:
        yield window, tokens
        return
    from concurrent.futures import ThreadPoolExecutor  # not for a text alone: it takes milliseconds to import

    with ThreadPoolExecutor(1) as thread:
        while following is not None:
            ahead = thread.submit(tokenize, following)
            yield window, tokens
            window, tokens, following = following, ahead.result(), next(windows, None)
        yield window, tokens


def passes(first: int, tokens: Tokenized, batch_size: int | None) -> Iterator[Pass]:
    """A window's texts, longest first, as many a pass as the budget of tokens and `batch_size` allow, at least one."""
    order = sorted(range(len(tokens.ids)), key=lambda place: len(tokens.ids[place]), reverse=True)
    budget = _TOKENS_A_THREAD * max(2, get_num_threads())
    places: list[int] = []
    total = 0
    for place in order:
        length = len(tokens.ids[place])
        if places and (total + length > budget or len(places) == batch_size):
            yield _packed(first, places, tokens)
            places, total = [], 0
        places.append(place)
        total += length
    if places:
        yield _packed(first, places, tokens)


def _packed(first: int, places: Sequence[int], tokens: Tokenized) -> Pass:
    types, seen = tokens.types, tokens.seen
    packed = PackedTokens.from_texts(
        [tokens.ids[place] for place in places], types=None if types is None else [types[place] for place in places]
    )
    if seen is not None:
        packed = replace(packed, seen=np.array([seen[place] for place in places], np.int64))
    return Pass(first + np.asarray(places, np.int64), packed)
