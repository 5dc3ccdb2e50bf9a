"""What the backend must be kept from where texts are longer than a row may be.

It panics, and prints, where a part of a cut text is no longer than what it repeats of the part before. And it puts
every part of one text of a pair beside every part of the other, ten thousand rows where each is a hundred times too
long, also where nobody asks for what was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .batch_encoding import Text
from .layout import Layout

_ROWS = 32  # that the backend may make of a pair, if no character is more than a token


def within_bounds(backend: Any, batch: list[Text], layout: Layout, own: int, side: str, *, words: bool) -> list[Text]:
    """The batch as the backend can take it: its rows come out as if it were left as it is.

    Raises
    ------
    ValueError
        A part of a text would be no longer than the stride.
    """
    if not layout.truncation or layout.length is None:
        return batch
    backend.no_truncation()
    backend.no_padding()
    if not layout.overflow and side == "right":  # without its beginning, a text's offsets would be others
        return [_shorten(backend, text, layout.length, words=words) for text in batch]
    pairs = any(isinstance(text, tuple) for text in batch)
    if layout.overflow and layout.may_repeat_too_much(own, pairs=pairs):
        for lengths in _lengths(backend, batch, words=words):
            layout.check_stride(lengths, own)
    return batch


def _lengths(backend: Any, batch: list[Text], *, words: bool) -> Iterator[list[int]]:
    """How many tokens each text has of its own, or each of a pair."""
    texts = [text if isinstance(text, tuple) else (text,) for text in batch]
    parts = [part for text in texts for part in text]
    lengths = (len(e.ids) for e in backend.encode_batch(parts, is_pretokenized=words, add_special_tokens=False))
    for text in texts:
        yield [next(lengths) for _ in text]


def _shorten(backend: Any, text: Text, length: int, *, words: bool) -> Text:
    """Of a pair of long texts each up to two or three times as many tokens as a row may have, the longer one more."""
    if not isinstance(text, tuple) or len(text[0]) * len(text[1]) <= _ROWS * length**2:
        return text
    first, second = backend.encode_batch(list(text), is_pretokenized=words, add_special_tokens=False)
    times = (3, 2) if len(first.ids) > len(second.ids) else (2, 3)
    return _beginning(text[0], first, times[0] * length), _beginning(text[1], second, times[1] * length)


def _beginning(text: Any, encoding: Any, tokens: int) -> Any:
    """A string, or a list of words, up to so many tokens."""
    if len(encoding.ids) <= tokens:
        return text
    last = tokens - 1
    return text[: encoding.offsets[last][1] if isinstance(text, str) else encoding.word_ids[last] + 1]
