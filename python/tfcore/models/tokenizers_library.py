"""The `tokenizers` library at work: its errors, tokens as it takes them, and what it puts around a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from .config import Config

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def token_text(config: Config, field: str, token: Any) -> str:
    """A token is a string, or an object with its string as `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise ValueError(
            f"{config.path}: field {field!r} holds {token!r}, expected a string or an object with its content"
        )
    return text


class LibraryErrors:
    """What a tokenizer's library raises as a ValueError that begins so; a TypeError is of what it was given, and stays.

    The libraries raise nothing more precise than an Exception, and panics of `tokenizers` are not even that.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from_the_library = isinstance(error, Exception) or type(error).__name__ == "PanicException"
        if from_the_library and not isinstance(error, TypeError):
            raise ValueError(f"{self._message}: {error}") from None


def ends_of(backend: Any) -> list[list[str]]:
    """The tokens of its own that a tokenizer puts before a text, and behind it."""
    backend.no_padding()
    backend.no_truncation()
    (encoding,) = backend.encode_batch(["a"], add_special_tokens=True)
    own = list(zip(encoding.tokens, encoding.special_tokens_mask, strict=True))
    before, behind = ([token for token, _ in takewhile(lambda pair: pair[1], side)] for side in (own, own[::-1]))
    return [before, behind[::-1]]


def put_ends(backend: Any, before: Sequence[str], behind: Sequence[str]) -> None:
    """Has each text begin and end with these tokens. Names stand for them: their own text may read as a template's."""
    from tokenizers import processors

    ends = {f"end{at}": token for at, token in enumerate([*before, *behind])}
    names = list(ends)
    order = [*names[: len(before)], "$", *names[len(before) :]]
    first, second = (
        [f"${text}:{i}" if name == "$" else f"{name}:{i}" for name in order] for i, text in enumerate("AB")
    )
    backend.post_processor = processors.TemplateProcessing(
        single=first,
        pair=[*first, *second],
        special_tokens=[
            {"id": name, "ids": [backend.token_to_id(token)], "tokens": [token]} for name, token in ends.items()
        ],
    )


def added_token(config: Config, field: str, token: Any) -> Any:
    """A token as the `tokenizers` library takes it, special and found as it is written unless the files differ."""
    from tokenizers import AddedToken

    stated = token if isinstance(token, dict) else {}
    flags = {name: stated[name] for name in _FLAGS if name in stated}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise ValueError(f"{config.path}: field {field!r} holds {token!r}, expected its flags to be true or false")
    return AddedToken(token_text(config, field, token), **{"special": True, "normalized": False, **flags})
