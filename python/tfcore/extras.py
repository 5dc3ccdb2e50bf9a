"""Packages that only some of tfcore needs: imported when it does, or an error that says how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def extra(module: str, name: str, purpose: str) -> Any:
    """The imported `module`, or an ImportError that says what it is needed for and which extra brings it.

    >>> extra("no_such_module", "models", "a test")
    Traceback (most recent call last):
    ModuleNotFoundError: a test needs no_such_module (No module named 'no_such_module'): pip install "tfcore[models]"
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
        raise kind(f'{purpose} needs {package} ({error}): pip install "tfcore[{name}]"', name=package) from error
