"""What each setting of `generate` may be, as data: a kind of value and a range."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..scalars import half_a_pair, plain, shown


@dataclass(frozen=True)
class _Rule:
    """What a setting may be: a kind of value, a range, both in words, and the value that None stands for."""

    wanted: str
    convert: Callable[[Any], Any]  # raises TypeError at another kind
    fits: Callable[[Any], bool] = lambda value: True
    none: Any = None

    def read(self, name: str, value: Any) -> Any:
        if value is None:
            return self.none
        try:
            converted = self.convert(value)
        except TypeError:
            raise TypeError(f"{name} is {shown(value)}, expected {self.wanted}") from None
        except OverflowError:
            raise ValueError(f"{name} is beyond float64, expected {self.wanted}") from None
        if not self.fits(converted):
            raise ValueError(f"{name} is {shown(value)}, expected {self.wanted}")
        return converted


def read(name: str, value: Any) -> Any:
    """A setting's value, checked, in the kind that the loop works with: numbers of Python, several as a tuple.

    >>> read("eos_token_id", [2, 7]), read("top_k", None)
    ((2, 7), 0)

    Raises
    ------
    TypeError, ValueError
        It is of another kind, or out of its range.
    """
    return _RULES[name].read(name, value)


def _integer(value: Any) -> int:
    value = plain(value)
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    value = plain(value)
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError
    return bool(value)


def _stopping(value: Any) -> bool | str:
    return value if isinstance(value, str) else _flag(value)


def _tokens(value: Any) -> tuple[int, ...]:
    value = plain(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(_integer(token) for token in value)
    return (_integer(value),)


def _words(value: Any) -> tuple[tuple[int, ...], ...]:
    words = plain(value)
    if not isinstance(words, (list, tuple)):
        raise TypeError
    words = [plain(word) for word in words]
    if not all(isinstance(word, (list, tuple)) for word in words):
        raise TypeError
    return tuple(_tokens(word) for word in words)


def _strings(value: Any) -> tuple[str, ...]:
    strings = (value,) if isinstance(value, str) else value
    if not isinstance(strings, (list, tuple)) or not all(isinstance(text, str) for text in strings):
        raise TypeError
    return tuple(strings)


def _count(least: int, most: int, none: int | None = None) -> _Rule:
    wanted = "a positive integer" if least else "a non-negative integer"
    bound = "10**36" if most == _MOST_LENGTH else most
    return _Rule(f"{wanted} up to {bound}", _integer, lambda value: least <= value <= most, none)


def _share(none: float | None) -> _Rule:
    return _Rule("a number from 0 to 1", _number, lambda value: 0 <= value <= 1, none)


def _are_ids(tokens: Sequence[int]) -> bool:
    return all(0 <= token < _MOST_ID for token in tokens)


_MOST_ID = 1 << 31
_MOST_LENGTH = 10**36  # lengths of 10**30 stand for none
_MOST_TEXTS = 1 << 16  # beams or draws of one prompt
_TOKEN = _Rule("a token id", _integer, lambda value: 0 <= value < _MOST_ID)
_TOKENS = _Rule("a token id or several", _tokens, _are_ids)
_SWITCH = _Rule("True or False", _flag, none=False)

_RULES: dict[str, _Rule] = {
    "max_new_tokens": _count(0, _MOST_LENGTH),
    "max_length": _count(1, _MOST_LENGTH),
    "min_new_tokens": _count(0, _MOST_LENGTH),
    "min_length": _count(0, _MOST_LENGTH, none=0),
    "do_sample": _SWITCH,
    "temperature": _Rule("a non-negative number", _number, lambda value: 0 <= value < math.inf, 1.0),
    "top_k": _count(0, _MOST_LENGTH, none=0),
    "top_p": _share(none=1.0),
    "min_p": _share(none=None),
    "repetition_penalty": _Rule("a positive number", _number, lambda value: 0 < value < math.inf, 1.0),
    "no_repeat_ngram_size": _count(0, _MOST_LENGTH, none=0),
    "num_beams": _count(1, _MOST_TEXTS, none=1),
    "length_penalty": _Rule("a finite number", _number, math.isfinite, 1.0),
    "early_stopping": _Rule(
        "True, False or 'never'", _stopping, lambda value: value == "never" or isinstance(value, bool), False
    ),
    "num_return_sequences": _count(1, _MOST_TEXTS, none=1),
    "eos_token_id": _TOKENS,
    "pad_token_id": _TOKEN,
    "bos_token_id": _TOKEN,
    "decoder_start_token_id": _TOKEN,
    "forced_bos_token_id": _TOKEN,
    "forced_eos_token_id": _TOKENS,
    "suppress_tokens": _TOKENS,
    "begin_suppress_tokens": _TOKENS,
    "bad_words_ids": _Rule(
        "a list of lists of token ids, none empty",
        _words,
        lambda words: all(word and _are_ids(word) for word in words),
    ),
    "renormalize_logits": _SWITCH,
    "seed": _Rule("a non-negative integer", _integer, lambda value: value >= 0),
    "stop_strings": _Rule(
        "a text or several, none empty or with a lone surrogate",
        _strings,
        lambda texts: all(text and not half_a_pair(text) for text in texts),
    ),
}
