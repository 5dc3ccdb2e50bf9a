"""How far a job has come: a bar on a terminal where rich is installed, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple

_EVERY = 5.0  # seconds between lines


class State(NamedTuple):
    """Rows that are done, those of them that this run computed, and the share of the corpus that is done, if known."""

    rows: int
    computed: int
    share: float | None


Show = Callable[[State], None]


@contextmanager
def progress(quiet: bool) -> Iterator[Show]:
    """A function to be told of every part."""
    if quiet:
        yield lambda state: None
    elif sys.stderr is not None and sys.stderr.isatty() and find_spec("rich") is not None:
        with _bar() as show:
            yield show
    else:
        yield _lines()


def describe(state: State, seconds: float, share_before: float) -> str:
    """`12288 rows, 61%, 103.4 rows/s, 1:16 left`. The rate is that of this run alone."""
    words = [f"{state.rows} rows"]
    if state.share is not None:
        words.append(f"{state.share:.0%}")
    words.append(f"{state.computed / max(seconds, 1e-9):.1f} rows/s")
    if state.share is not None and state.share > share_before:
        words.append(f"{_clock(seconds * (1 - state.share) / (state.share - share_before))} left")
    return ", ".join(words)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


class _Watch:
    """The words for a state. The clock starts with the first part that is computed, not with those found done."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._share_before = 0.0

    def words(self, state: State) -> str:
        if not state.computed:
            self._started, self._share_before = time.monotonic(), state.share or 0.0
        return describe(state, time.monotonic() - self._started, self._share_before)


def _lines() -> Show:
    watch, told = _Watch(), time.monotonic()

    def show(state: State) -> None:
        nonlocal told
        words = watch.words(state)
        if time.monotonic() - told >= _EVERY:
            told = time.monotonic()
            print(words, file=sys.stderr, flush=True)

    return show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    watch = _Watch()
    with Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(state: State) -> None:
            total = None if state.share is None else 1.0
            bar.update(task, total=total, completed=state.share or 0.0, description=watch.words(state))

        yield show
