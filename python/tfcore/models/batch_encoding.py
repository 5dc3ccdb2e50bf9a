"""Texts in, tokens out: the arguments of a tokenizer's call, and what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .device import check_device

Text = str | tuple[str, str]


class BatchEncoding(dict[str, Any]):
    """What a tokenizer returns: a dict whose keys are attributes too, made for `model(**inputs)`."""

    def __init__(self, data: dict[str, Any], encodings: list[Any]) -> None:
        super().__init__(data)
        self._encodings = encodings

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} among {', '.join(self)}") from None

    def to(self, device: Any) -> BatchEncoding:
        """Itself, if `device` is the CPU: here so that lines written for PyTorch run."""
        check_device(device)
        return self

    @property
    def encodings(self) -> list[Any]:
        """What the `tokenizers` library made of each text, with the parts that truncation cut off."""
        return self._encodings

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of one text, as strings."""
        return list(self._encodings[batch_index].tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of one text the number of the word it is of; None for special tokens."""
        return list(self._encodings[batch_index].word_ids)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token 0 or 1, the text of the pair it is of; None for special tokens."""
        return list(self._encodings[batch_index].sequence_ids)


def as_batch(text: Any, pair: Any) -> tuple[list[Text], bool]:
    """The texts, or pairs of texts, of a call as a list, and whether it was a batch."""
    if isinstance(text, str):
        if not isinstance(pair, str | None):
            raise TypeError(f"text_pair is {type(pair).__name__}, expected a string beside a single text")
        return [(text, pair) if pair else text], False
    texts = _as_list("text", text)
    if pair is None:
        return [_as_text(item) for item in texts], True
    pairs = _as_list("text_pair", pair)
    if len(texts) != len(pairs):
        raise ValueError(f"text_pair has {len(pairs)} texts, expected {len(texts)} as text")
    return [_as_text((first, second)) for first, second in zip(texts, pairs, strict=True)], True


def _as_list(name: str, texts: Any) -> Sequence[Any]:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"{name} is {type(texts).__name__}, expected a string or a list of strings")
    return texts


def _as_text(item: Any) -> Text:
    """A string, or a pair of strings as a tuple."""
    if isinstance(item, str):
        return item
    if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return item[0], item[1]
    raise TypeError(f"text holds {type(item).__name__}, expected strings or pairs of strings")


def as_tensor(rows: list[Any], kind: str) -> Any:
    """Rows of one length as a tensor of int64."""
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            f"texts have {min(map(len, rows))} to {max(map(len, rows))} tokens and make no tensor: pass padding=True "
            "(and truncation=True to cut long ones)"
        )
    array = np.array(rows, np.int64) if rows else np.zeros((0, 0), np.int64)
    if kind == "np":
        return array
    if kind == "pt":
        return _torch_tensor(array)
    raise ValueError(f"return_tensors is {kind!r}, expected 'np', 'pt' or None")


def _torch_tensor(array: Any) -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('return_tensors="pt" needs PyTorch; "np" does not', name=error.name) from None
    return torch.from_numpy(array)
