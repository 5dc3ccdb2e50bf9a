"""When a text has ended: its length, an end token, or a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from .options import GenerationOptions
from .protocol import Decode, IntArray

_REPLACEMENT = "\ufffd"  # what a part of a character is decoded to
_CHARACTER = 4  # the most tokens that one is spread over, at a byte each


class Stopping:
    """Whether a text ends with the token it just got.

    A stop string counts when the newest token completes it: one that ended earlier, in the prompt, does not. Tokens
    are of a byte at least, so that one more of them than the longest stop string has bytes is enough to find it in.

    Raises
    ------
    ValueError
        There are stop strings and no `decode` to find them with.
    """

    def __init__(self, options: GenerationOptions, decode: Decode | None) -> None:
        self._ends = frozenset(options.end_tokens)
        self._strings: Sequence[str] = options.stop_strings or ()
        self._decode = decode
        self._window = max((len(text.encode()) for text in self._strings), default=0)
        if self._strings and decode is None:
            raise ValueError("stop_strings are looked for in the text: pass tokenizer=, or a tokenizer's decode")

    def ends(self, tokens: IntArray, token: int, most: int) -> bool:
        """Whether `tokens` (L,) end with `token`, where `most` is the length they may have."""
        return len(tokens) + 1 >= most or token in self._ends or self._completes_a_string(tokens, token)

    def _completes_a_string(self, tokens: IntArray, token: int) -> bool:
        if not self._strings or self._decode is None:
            return False
        first = max(0, len(tokens) - self._window)
        for start in range(first, max(-1, first - _CHARACTER), -1):  # a window may begin within a character
            new = self._decode([*tokens[start:].tolist(), token])
            if not new.startswith(_REPLACEMENT):
                break
        old = self._decode(tokens[start:].tolist())
        known = _common(old, new)
        return any(new.find(text, max(0, known - len(text) + 1)) >= 0 for text in self._strings)


def _common(one: str, other: str) -> int:
    """The length of what both begin with: a split character at the end of `one` is not yet what it will be."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(i for i in range(length) if one[i] != other[i])
