"""Single values among arguments: TypeError for another kind, ValueError beyond the bounds, both with the name."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

_MOST_SHOWN = 60


def integer(name: str, value: Any, least: int = 1, most: int | None = None, expected: str | None = None) -> int:
    """`value`, an integer of Python or NumPy from `least` up to `most`, as an int.

    >>> integer("max_length", True)
    Traceback (most recent call last):
    TypeError: max_length is True, expected a positive integer
    >>> integer("top_k", 9, 0, 8)
    Traceback (most recent call last):
    ValueError: top_k is 9, expected 0 or a positive integer up to 8
    """
    if expected is None:
        lowest = {0: "0 or a positive integer", 1: "a positive integer"}.get(least, f"an integer of at least {least}")
        expected = lowest if most is None else f"{lowest} up to {most}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} is {shown(value)}, expected {expected}")
    whole = int(value)
    if whole < least or (most is not None and whole > most):
        raise ValueError(f"{name} is {shown(whole)}, expected {expected}")
    return whole


def number(name: str, value: Any, most: float = math.inf) -> float:
    """`value`, a number of Python or NumPy from 0 to `most`, as a float.

    >>> number("eps", "small")
    Traceback (most recent call last):
    TypeError: eps is 'small', expected 0 or a positive number
    >>> number("dropout", 1.5, 1)
    Traceback (most recent call last):
    ValueError: dropout is 1.5, expected a number from 0 to 1
    """
    expected = "0 or a positive number" if most == math.inf else f"a number from 0 to {most}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {shown(value)}, expected {expected}")
    try:
        converted = float(value)
    except OverflowError:
        raise ValueError(f"{name} is beyond float64, expected {expected}") from None
    if not 0 <= converted <= most:
        raise ValueError(f"{name} is {shown(value)}, expected {expected}")
    return converted


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
