"""Single values among arguments: TypeError for another kind, ValueError beyond the bounds, both with the name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from numbers import Real
from typing import Any

_MOST_SHOWN = 60


def integer(name: str, value: Any, least: int = 1, most: int | None = None, expected: str | None = None) -> int:
    """`value`, an integer of Python or NumPy from `least` up to `most`, as an int.

    >>> integer("max_length", True)
    Traceback (most recent call last):
    TypeError: max_length is True, expected a positive integer
    >>> integer("top_k", 9, 0, 8)
    Traceback (most recent call last):
    ValueError: top_k is 9, expected a non-negative integer up to 8
    """
    whole = value if type(value) is int else plain(value)
    of_kind = isinstance(whole, int) and not isinstance(whole, bool)
    if of_kind and whole >= least and (most is None or whole <= most):
        return int(whole)
    if expected is None:
        lowest = {0: "a non-negative integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
        expected = lowest if most is None else f"{lowest} up to {most}"
    raise (ValueError if of_kind else TypeError)(f"{name} is {shown(whole)}, expected {expected}")


def number(name: str, value: Any, most: float = math.inf) -> float:
    """`value`, a number of Python or NumPy from 0 to `most`, as a float.

    >>> number("eps", "small")
    Traceback (most recent call last):
    TypeError: eps is 'small', expected a non-negative number
    >>> number("dropout", 1.5, 1)
    Traceback (most recent call last):
    ValueError: dropout is 1.5, expected a number from 0 to 1
    """
    given = plain(value)
    of_kind = isinstance(given, Real) and not isinstance(given, bool)
    expected = "a non-negative number" if most == math.inf else f"a number from 0 to {most}"
    try:
        if of_kind and 0 <= given <= most:
            return float(given)
    except OverflowError:
        raise ValueError(f"{name} is beyond float64, expected {expected}") from None
    raise (ValueError if of_kind else TypeError)(f"{name} is {shown(given)}, expected {expected}")


def choose(name: str, value: Any, choices: Mapping[Any, Any]) -> Any:
    """What `choices` holds under `value`.

    >>> choose("norm", "batch", {"layer": 1, "rms": 2})
    Traceback (most recent call last):
    ValueError: norm is 'batch', expected one of 'layer', 'rms'
    """
    try:
        return choices[value]
    except (KeyError, TypeError):
        kind = ValueError if isinstance(value, tuple(map(type, choices))) else TypeError
        raise kind(f"{name} is {shown(value)}, expected one of {', '.join(map(repr, choices))}") from None


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Refuses all but `choices`."""
    choose(name, value, dict.fromkeys(choices))


def plain(value: Any) -> Any:
    """The numbers of an array, a tensor or a scalar of NumPy's, as Python has them; all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value


def shown(value: Any, write: Callable[[Any], str] = repr) -> str:
    """A value as Python writes it, in one line, cut where it is long."""
    try:
        text = " ".join(write(value).split())
    except ValueError:  # Python writes no integer of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…"


def half_a_pair(text: str) -> bool:
    """Whether it holds half of a surrogate pair, which is no character."""
    return any("\ud800" <= character <= "\udfff" for character in text)
