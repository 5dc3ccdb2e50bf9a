"""What a tokenizer stands on, used from several threads."""

from __future__ import annotations

from typing import Any

from ..locks import fork_lock
from .batch_encoding import Text
from .layout import Layout
from .long_texts import within_bounds
from .marian_tokenizer import MarianSide
from .tokenizers_library import LibraryErrors, ends_of, put_ends


class LockedBackend:
    """A `tokenizers.Tokenizer`, or a side of Marian's, under a lock.

    How it cuts and pads texts, and which tokens it puts around them, is its state, which each use here sets first.

    Parameters
    ----------
    backend : tokenizers.Tokenizer or MarianSide

    Attributes
    ----------
    has_offsets : bool
        Whether tokens are told where in the text they are from: Marian's are not.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._lock = fork_lock()
        self.has_offsets = not isinstance(backend, MarianSide)

    def encode(
        self, batch: list[Text], layout: Layout, *, add_special_tokens: bool, words: bool, target: bool
    ) -> list[Any]:
        """The tokens of each text, or pair of texts; as `target` text in the language that is translated to.

        Raises
        ------
        ValueError
            The layout has no room for the texts, or a text is no Unicode.
        """
        backend = self._backend.target if target and isinstance(self._backend, MarianSide) else self._backend
        pairs = any(isinstance(text, tuple) for text in batch)
        own = backend.num_special_tokens_to_add(pairs) if add_special_tokens else 0
        layout.check_room(own)
        asked = f"truncation={layout.truncation!r}, max_length={layout.length}, stride={layout.stride}"
        try:
            with self._lock, LibraryErrors(f"cannot tokenize with {asked}"):
                if self.has_offsets:
                    batch = within_bounds(backend, batch, layout, own, pairs=pairs, words=words)
                layout.configure(backend)
                return list(backend.encode_batch(batch, is_pretokenized=words, add_special_tokens=add_special_tokens))
        except TypeError:  # the texts are strings, so one of them is not Unicode
            raise ValueError("text holds half of a surrogate pair, which is no character") from None

    def ends(self) -> list[list[str]]:
        """The tokens that a call puts before a text, and behind it."""
        with self._lock:
            return ends_of(self._backend)

    def put_end(self, end: int, token: str, *, added: bool) -> None:
        """Puts a token before (0) or behind (1) all that a call puts there, or no longer puts it there."""
        if isinstance(self._backend, MarianSide):
            raise ValueError("the ends of Marian's texts are the checkpoint's own, and cannot be set")
        with self._lock:
            ends = ends_of(self._backend)
            others = [other for other in ends[end] if other != token]
            ends[end] = ([token, *others] if end == 0 else [*others, token]) if added else others
            put_ends(self._backend, *ends)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=fork_lock())
