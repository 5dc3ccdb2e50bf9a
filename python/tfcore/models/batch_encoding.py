"""Texts in, tokens out: the arguments of a tokenizer's call, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .device import check_device

Text = str | list[str] | tuple[str, str] | tuple[list[str], list[str]]


class CharSpan(NamedTuple):
    """The characters [start, end) of a text."""

    start: int
    end: int


class TokenSpan(NamedTuple):
    """The tokens [start, end) of an encoded text."""

    start: int
    end: int


_Span = TypeVar("_Span", CharSpan, TokenSpan)


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dict whose keys are attributes too, made for `model(**inputs)`.

    `batch[0]` is what the `tokenizers` library made of the first text. The methods below tell which characters, words
    and tokens belong together, of the only text, or of one of several: `batch.char_to_token(5)` or
    `batch.char_to_token(batch_index, 5)`. In a pair of texts `sequence_index` is 0 or 1, the text that a character or
    word is of. A special token is of no text, a space may be of no token, and a cut text has lost some: None then.

    >>> batch = tokenizer("Hello, worlds!")  # doctest: +SKIP
    >>> batch.tokens()  # doctest: +SKIP
    ['[CLS]', 'hello', ',', 'worlds', '!', '[SEP]']
    >>> batch.char_to_token(7), batch.token_to_chars(3), batch.token_to_chars(0)  # doctest: +SKIP
    (3, CharSpan(start=7, end=13), None)
    """

    def __init__(self, data: dict[str, Any], encodings: list[Any] | None = None, *, has_offsets: bool = True) -> None:
        super().__init__(data)
        self._encodings = encodings
        self._has_offsets = has_offsets

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} among {', '.join(self)}") from None

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.encodings[key]

    def to(self, device: Any, *, non_blocking: bool = False) -> BatchEncoding:
        """Itself, if `device` is the CPU: here so that lines written for PyTorch run."""
        check_device(device)
        return self

    def copy(self) -> BatchEncoding:
        """Another with the same columns."""
        return BatchEncoding(self, self._encodings, has_offsets=self._has_offsets)

    @property
    def encodings(self) -> list[Any]:
        """What the `tokenizers` library made of each text, with the parts that truncation cut off."""
        if self._encodings is None:
            raise ValueError("these ids were padded by themselves: what is known of their texts is in what was padded")
        return self._encodings

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of one text, as strings."""
        return list(self.encodings[batch_index].tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of one text the number of the word it is of; None for special tokens."""
        return list(self._located(batch_index).word_ids)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token 0 or 1, the text of the pair it is of; None for special tokens."""
        return list(self.encodings[batch_index].sequence_ids)

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The text of the pair that a token is of: 0 or 1."""
        encoding, token = self._at(batch_or_token_index, token_index)
        return encoding.token_to_sequence(token)  # type: ignore[no-any-return]

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        """The number of the word that a token is of."""
        encoding, token = self._at(batch_or_token_index, token_index)
        return encoding.token_to_word(token)  # type: ignore[no-any-return]

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        """The characters that a token is made of."""
        encoding, token = self._at(batch_or_token_index, token_index)
        return _span(CharSpan, encoding.token_to_chars(token))

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        """The tokens that a word was cut into."""
        encoding, word = self._at(batch_or_word_index, word_index)
        return _span(TokenSpan, encoding.word_to_tokens(word, sequence_index))

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        """The characters of a word."""
        encoding, word = self._at(batch_or_word_index, word_index)
        return _span(CharSpan, encoding.word_to_chars(word, sequence_index))

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The token that a character went into."""
        encoding, char = self._at(batch_or_char_index, char_index)
        return encoding.char_to_token(char, sequence_index)  # type: ignore[no-any-return]

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        """The number of the word that a character is of."""
        encoding, char = self._at(batch_or_char_index, char_index)
        return encoding.char_to_word(char, sequence_index)  # type: ignore[no-any-return]

    def _at(self, batch_or_index: int, index: int | None) -> tuple[Any, int]:
        """A text's encoding and the position in it that a method was asked about."""
        batch_index, position = (0, batch_or_index) if index is None else (batch_or_index, index)
        if position < 0:
            raise IndexError(f"the position asked about is {position}, expected 0 or more")
        return self._located(batch_index), position

    def _located(self, batch_index: int) -> Any:
        """A text's encoding that knows where its tokens are from."""
        if not self._has_offsets:
            raise ValueError("Marian's pieces are not told where in the text they are from")
        return self.encodings[batch_index]


def _span(kind: Callable[[int, int], _Span], found: tuple[int, int] | None) -> _Span | None:
    return None if found is None else kind(*found)


# ---- arguments


class _Kind(NamedTuple):
    """What a text of a call is."""

    one: str
    many: str
    fits: Callable[[Any], bool]


_STRING = _Kind("a string", "strings", lambda value: isinstance(value, str))
_WORDS = _Kind(
    "a list of words",
    "lists of words",
    lambda value: isinstance(value, list | tuple) and all(isinstance(word, str) for word in value),
)


def as_batch(text: Any, pair: Any, *, words: bool = False) -> tuple[list[Text], bool]:
    """The texts, or pairs of texts, of a call as a list, and whether it was a batch. With `words` a text is a list."""
    kind = _WORDS if words else _STRING
    if kind.fits(text):
        if pair is not None and not kind.fits(pair):
            raise TypeError(f"text_pair is {type(pair).__name__}, expected {kind.one} beside a single text")
        # An empty second text is none here, but one in a batch: as Transformers has it
        return [(_plain(text), _plain(pair)) if pair else _plain(text)], False
    texts = _as_list("text", text, kind)
    if pair is None:
        return [_as_text(item, kind) for item in texts], True
    pairs = _as_list("text_pair", pair, kind)
    if len(texts) != len(pairs):
        raise ValueError(f"text_pair has {len(pairs)} texts, expected {len(texts)} as text")
    return [_as_text((first, second), kind) for first, second in zip(texts, pairs, strict=True)], True


def _as_list(name: str, texts: Any, kind: _Kind) -> Sequence[Any]:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"{name} is {type(texts).__name__}, expected {kind.one} or a list of {kind.many}")
    return texts


def _as_text(item: Any, kind: _Kind) -> Any:
    if kind.fits(item):
        return _plain(item)
    if isinstance(item, list | tuple) and len(item) == 2 and all(kind.fits(part) for part in item):
        return _plain(item[0]), _plain(item[1])
    raise TypeError(f"text holds {type(item).__name__}, expected {kind.many} or pairs of {kind.many}")


def _plain(text: Any) -> Any:
    """A string, or a list of words: of all that is tokenized pairs alone are tuples."""
    return text if isinstance(text, str) else list(text)


def as_lists(ids: Any) -> Any:
    """Arrays and tensors, at any depth of lists, as lists; a single id as itself."""
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return [as_lists(row) for row in ids] if isinstance(ids, list | tuple) else ids


def as_columns(inputs: Any) -> tuple[dict[str, Any], str | None]:
    """What is to be padded: columns as lists, and the kind of tensors they came as."""
    if isinstance(inputs, list | tuple) and inputs and all(isinstance(row, Mapping) for row in inputs):
        inputs = {key: [row[key] for row in inputs] for key in inputs[0]}
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        raise ValueError("encoded_inputs lacks input_ids, expected what a call returns, or a list of that")
    ids = inputs["input_ids"]
    first = ids[0] if isinstance(ids, list | tuple) and ids else ids
    kind = None if not hasattr(first, "tolist") else "np" if isinstance(first, np.ndarray) else "pt"
    return {key: as_lists(value) for key, value in inputs.items()}, kind


# ---- results


def first_rows(data: Mapping[str, Any]) -> dict[str, Any]:
    """Of columns of rows their first ones; numbers stay in a list."""
    return {key: rows[0] if isinstance(rows[0], list) else rows for key, rows in data.items()}


def as_tensors(data: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """Columns as tensors of a kind, "np" or "pt"; None leaves them lists."""
    return data if kind is None else {key: _as_tensor(key, rows, kind) for key, rows in data.items()}


def _as_tensor(name: str, rows: Any, kind: str) -> Any:
    """Rows of one length, or numbers, or a number, as a tensor; of int64, if they are integers."""
    lengths = [len(row) for row in rows if isinstance(row, list)] if isinstance(rows, list) else []
    if len(set(lengths)) > 1:
        hint = ": pass padding=True (and truncation=True to cut long ones)" if name == "input_ids" else ""
        raise ValueError(f"{name} has rows of {min(lengths)} to {max(lengths)} tokens, which make no tensor{hint}")
    array = np.array(rows) if rows != [] else np.zeros((0, 0), np.int64)
    if array.size == 0:
        array = array.astype(np.int64)
    if kind == "np":
        return array
    if kind == "pt":
        return torch_tensor(array, 'return_tensors="pt"')
    raise ValueError(f"return_tensors is {kind!r}, expected 'np', 'pt' or None")


def torch_tensor(array: Any, asked: str) -> Any:
    """A CPU tensor of PyTorch on an array's memory, which the argument `asked` is for."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{asked} needs PyTorch; arrays do not", name=error.name) from None
    return torch.from_numpy(array)
