"""What is told of a run: how many tokens the texts had, which were cut, and how far the work has come."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import NamedTuple

import numpy as np

from ..models.packing import IntArray

_LONG = 512  # texts from which a progress bar is worth its lines


class EncodingInfo(NamedTuple):
    """What `return_info=True` tells.

    Attributes
    ----------
    token_counts : (n,) int64
        How many tokens of each text were used, the model's own among them.
    truncated : (k,) int64
        The rows of the texts that were longer than `max_seq_length` and were cut, in order.
    """

    token_counts: IntArray
    truncated: IntArray

    @property
    def texts(self) -> int:
        """How many texts there were."""
        return len(self.token_counts)

    @property
    def tokens(self) -> int:
        """How many tokens were used in all."""
        return int(self.token_counts.sum())


class Tally:
    """Token counts and cut rows, gathered window by window."""

    def __init__(self) -> None:
        self._counts: list[IntArray] = []
        self._cut: list[int] = []

    def add(self, first: int, counts: list[int], cut: list[int]) -> None:
        """Counts of the texts from row `first` on, and which of them were cut, counted from there."""
        self._counts.append(np.asarray(counts, np.int64))
        self._cut += [first + place for place in cut]

    def info(self) -> EncodingInfo:
        """All that was gathered."""
        counts = np.concatenate([np.zeros(0, np.int64), *self._counts])
        return EncodingInfo(counts, np.asarray(self._cut, np.int64))

    def warn(self, limit: int, what: str) -> bool:
        """Warns the line that called tfcore if texts were cut, and says whether it did."""
        if not self._cut:
            return False
        total, cut = sum(map(len, self._counts)), len(self._cut)
        warnings.warn(
            f"{cut} of {total} texts had more than max_seq_length, {limit} tokens, and were cut: the first is "
            f"{what}[{self._cut[0]}]. return_info=True lists them; this encoder does not warn again.",
            stacklevel=_callers_level(),
        )
        return True


def _callers_level() -> int:
    """The `stacklevel` of the first frame outside this package, for a warning of the caller's."""
    package = __name__.partition(".")[0]
    frame: FrameType | None = sys._getframe(1)
    level = 1
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def progress(total: int | None, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, as a function that is told how many texts are done.

    None shows it for long work, on a terminal, where `rich` is installed.
    """
    if show is None:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        show = (total is None or total > _LONG) and terminal and find_spec("rich") is not None
    if not show:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("texts"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("texts", total=total)
        yield lambda done: bar.advance(task, done)
