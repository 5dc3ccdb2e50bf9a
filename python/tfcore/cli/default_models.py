"""The model of a command: the one that is named, else one that a package carries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def named_or(name: str | None, carried: Callable[[], Path]) -> str:
    """`name`, or where `carried` is."""
    try:
        return str(carried()) if name is None else name
    except ImportError as error:
        raise FileNotFoundError(f"the default model is not there: {error}, or pass --model NAME") from None
