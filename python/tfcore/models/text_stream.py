"""`TextStream`: the text of tokens as they come, in pieces that never have to be taken back.

What a token says depends on its neighbours: a character may be spread over several tokens, a decoder drops the space at
the start, a clean-up takes back spaces before punctuation. So a few tokens are kept back until their text is settled,
and decoded together with those before them. The pieces, joined, are what `decode` says of all tokens at once.
"""

from __future__ import annotations

import re
from typing import Any

from .tokenizer import Tokenizer, clean_up

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # one byte of a character, in tokenizers that fall back to bytes
_HALF = "\ufffd"  # what decoders write for bytes that are no character, or not yet
_LONGEST_CHARACTER = 4  # tokens that one character is spread over
_SETTLED = re.compile(r"(?<=[^\s'])(?= [^\s.?!,'n])")  # a space here is no part of what the clean-up looks for


class TextStream:
    """Token ids in, finished text out.

    >>> stream = TextStream(tokenizer)  # doctest: +SKIP
    >>> [stream.put(token) for token in tokenizer.encode("transformers understand!")]  # doctest: +SKIP
    ['', 'transformers', ' understand', '!', '']
    >>> stream.end()  # doctest: +SKIP
    ''

    Parameters
    ----------
    tokenizer : Tokenizer
        The tokenizer that made the ids.
    skip_special_tokens : bool
        Leave out special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._begin()

    def put(self, ids: Any) -> str:
        """The text that is settled by one more id, or by several."""
        ids = ids.tolist() if hasattr(ids, "tolist") else ids
        before = len(self._pending)
        for token in [ids] if isinstance(ids, int) else ids:
            self._take(token)
        return self._settle(self._advance()) if len(self._pending) > before else ""

    def end(self) -> str:
        """The text that was kept back. The stream starts anew."""
        text = self._decode(self._context + self._pending + self._bytes)
        rest = self._unclean + text[self._given :]
        self._begin()
        return clean_up(rest) if self._tokenizer.cleans_up else rest

    def _begin(self) -> None:
        self._context: list[int] = []  # ids whose text is given, before …
        self._pending: list[int] = []  # … those whose text may have to wait, before …
        self._bytes: list[int] = []  # … a run of single bytes, which decoders read as a whole
        self._given = 0  # characters of the first two's text that are given
        self._unclean = ""  # text that the clean-up may change

    def _take(self, token: int) -> None:
        if token in self._skipped:
            return
        self._bytes.append(token)
        if not _BYTE.fullmatch(self._tokenizer.convert_ids_to_tokens(token) or ""):
            self._pending += self._bytes
            self._bytes = []

    def _advance(self) -> str:
        """The new text of the pending tokens, without a character that may be half."""
        text = self._decode(self._context + self._pending)
        whole = text.removesuffix(_HALF)
        new, self._given = whole[self._given :], max(self._given, len(whole))
        if new and whole == text:
            self._context, self._pending = self._pending, []
            self._given = len(self._decode(self._context))
        elif len(self._pending) > 2 * _LONGEST_CHARACTER:
            self._forget(text)
        return new

    def _forget(self, text: str) -> None:
        """Keeps the last tokens only, where those before have no say in their text: bytes may be wrong for ever."""
        first, last = self._pending[:-_LONGEST_CHARACTER], self._pending[-_LONGEST_CHARACTER:]
        head, base = self._decode(self._context + first), self._decode(first[-1:])
        tail = self._decode(first[-1:] + last)
        if tail.startswith(base) and text == head + tail[len(base) :]:
            self._context, self._pending = first[-1:], last
            self._given += len(base) - len(head)

    def _settle(self, new: str) -> str:
        """Text that the clean-up will not change, cleaned up."""
        if not self._tokenizer.cleans_up:
            return new
        seen, self._unclean = max(0, len(self._unclean) - 2), self._unclean + new
        end = max((match.start() for match in _SETTLED.finditer(self._unclean, seen)), default=0)
        text, self._unclean = self._unclean[:end], self._unclean[end:]
        return clean_up(text)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)) if ids else ""
