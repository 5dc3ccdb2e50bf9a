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


def within_bounds(backend: Any, batch: list[Text], layout: Layout, own: int, *, pairs: bool, words: bool) -> list[Text]:
    """The batch as the backend can take it: its rows come out as if it were left as it is.

    Raises
    ------
    ValueError
        A part of a text would be no longer than the stride.
    """
    length = layout.length
    if not layout.truncation or length is None or not (pairs or layout.overflow):
        return batch
    backend.no_truncation()
    backend.no_padding()
    if layout.overflow:
        _check_stride(backend, batch, layout, length - own, pairs=pairs, words=words)
    elif layout.cut_side == "right":  # without its beginning, a text's offsets would be others
        return [_shorten(backend, text, length, words=words) for text in batch]
    return batch


# ---- strides


def _check_stride(backend: Any, batch: list[Text], layout: Layout, room: int, *, pairs: bool, words: bool) -> None:
    """A part of a cut text must be longer than what it repeats. Texts are measured only where that is in doubt."""
    one_is_cut = pairs and layout.truncation != "longest_first"
    if layout.stride == 0 or (layout.stride < (room // 2 if pairs else room) and not one_is_cut):
        return
    for lengths in _lengths(backend, batch, words=words):
        for before, after in zip(lengths, _cut_lengths(lengths, layout.truncation, room), strict=True):
            if 0 < after < before and layout.stride >= after:
                raise ValueError(f"stride must be less than the {after} tokens of a part")


def _cut_lengths(lengths: list[int], truncation: str | None, room: int) -> list[int]:
    """What a text, or the two of a pair, of these lengths are cut to."""
    if sum(lengths) <= room or len(lengths) == 1:
        return [min(length, room) for length in lengths]
    first, second = lengths
    if truncation == "only_first":
        return [room - second, second]
    if truncation == "only_second":
        return [first, room - first]
    half = room // 2
    if min(lengths) <= half:  # the longer one alone is cut
        return [length if length == min(lengths) else room - min(lengths) for length in lengths]
    return [half, room - half] if first <= second else [room - half, half]


def _lengths(backend: Any, batch: list[Text], *, words: bool) -> Iterator[list[int]]:
    """How many tokens each text has of its own, or each of a pair."""
    texts = [text if isinstance(text, tuple) else (text,) for text in batch]
    parts = [part for text in texts for part in text]
    lengths = (len(e.ids) for e in backend.encode_batch(parts, is_pretokenized=words, add_special_tokens=False))
    for text in texts:
        yield [next(lengths) for _ in text]


# ---- pairs


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
