"""Packages that only some jobs need, imported when they are."""

from __future__ import annotations

import importlib
from typing import Any


def extra(module: str, name: str, purpose: str) -> Any:
    """The imported `module`, or an ImportError that names the extra `name` which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{purpose} needs {package} ({error}): pip install "tfcore[{name}]"') from error
