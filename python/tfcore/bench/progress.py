"""How far it is, on standard error, so that standard output holds nothing but the result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from .report import HINT


class Progress:
    """Told of every case's begin and end and of the shares in between; shows nothing."""

    def begin(self, name: str) -> None: ...

    def advance(self, share: float) -> None: ...

    def end(self) -> None: ...


class _Lines(Progress):
    """A line a case."""

    def begin(self, name: str) -> None:
        print(f"measuring {name}", file=sys.stderr, flush=True)


class _Bar(Progress):
    def __init__(self, bar: Any, cases: int) -> None:
        self._bar, self._task, self._done = bar, bar.add_task("", total=cases), 0

    def begin(self, name: str) -> None:
        self._bar.update(self._task, description=name)

    def advance(self, share: float) -> None:
        self._bar.advance(self._task, share)
        self._bar.refresh()

    def end(self) -> None:
        self._done += 1
        self._bar.update(self._task, completed=self._done)


@contextmanager
def show_progress(cases: int) -> Iterator[Progress]:
    """A bar if `rich` is installed and standard error is a terminal, else a line a case.

    >>> with show_progress(1) as progress:
    ...     progress.begin("a case")
    """
    try:
        rich_console, rich_progress = import_module("rich.console"), import_module("rich.progress")
    except ImportError:
        print(HINT, file=sys.stderr)
        yield _Lines()
        return
    console = rich_console.Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        rich_progress.BarColumn(),
        rich_progress.TaskProgressColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.description}"),
    )
    # Drawn between blocks, never by a thread of its own in the middle of a timed call.
    with rich_progress.Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        yield _Bar(bar, cases)
