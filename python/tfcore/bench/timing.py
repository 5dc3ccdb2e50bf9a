"""Timing calls that compete: in one process, taking turns.

Thread pools spin for a while after a call and steal the cores of whoever comes next. So rivals take turns by blocks and
not by calls: a pause in which the others fall asleep, a warm call, then timed calls; round and round, so that a slow
minute of the machine hits all of them alike.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from statistics import median
from typing import Any

import numpy as np

__all__ = ["FULL", "QUICK", "Protocol", "Run", "Timing", "fastest", "interleave"]

Run = Callable[[], Any]

_SPIN_SECONDS = {"ctranslate2": 0.25}  # after a call, where a rival was seen to keep the cores beyond the pause
_SAMPLE_SECONDS = 20e-6  # shorter calls are timed several at once: reading the clock costs 0.1 µs


@dataclass(frozen=True)
class Protocol:
    """How long to measure: `rounds` blocks a rival, each of a pause, a warm call and `block_seconds` of timed calls."""

    rounds: int
    block_seconds: float
    pause_seconds: float = 0.02


FULL = Protocol(rounds=9, block_seconds=0.1)
QUICK = Protocol(rounds=3, block_seconds=0.02)


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median over blocks of each block's median, and the best decile of all calls."""

    median: float
    best_decile: float
    calls: int

    @staticmethod
    def of(blocks: list[list[float]], calls_a_sample: int = 1) -> Timing:
        """
        >>> Timing.of([[3.0, 1.0, 2.0], [2.0, 9.0, 5.0], [4.0, 4.0, 4.0]]).median
        4.0
        """
        samples = [sample for block in blocks for sample in block]
        return Timing(
            median=median(median(block) for block in blocks),
            best_decile=float(np.quantile(samples, 0.1)),
            calls=len(samples) * calls_a_sample,
        )


def interleave(
    rivals: Mapping[str, Run], protocol: Protocol = FULL, advance: Callable[[float], None] = lambda share: None
) -> dict[str, Timing]:
    """Times calls in turns, a block for each rival a round; each round begins with another one.

    `advance` is told each block's share of the whole.

    >>> timings = interleave({"sum": lambda: sum(range(100)), "max": lambda: max(range(100))}, QUICK)
    >>> timings["sum"].median > 0
    True
    """
    names = list(rivals)
    calls = {name: _calls_a_sample(run) for name, run in rivals.items()}
    blocks: dict[str, list[list[float]]] = {name: [] for name in names}
    previous = ""
    with _no_garbage_collection():
        for turn in range(protocol.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                time.sleep(max(protocol.pause_seconds, _SPIN_SECONDS.get(previous, 0.0)))
                previous = name
                blocks[name].append(_block(rivals[name], calls[name], protocol.block_seconds))
                advance(1 / (protocol.rounds * len(names)))
    return {name: Timing.of(blocks[name], calls[name]) for name in names}


def _block(run: Run, calls: int, seconds: float) -> list[float]:
    """A warm call, then samples of `calls` calls for `seconds`, at least one: seconds a call, sample by sample."""
    clock = time.perf_counter
    samples = []
    run()
    end = clock() + seconds
    while True:
        start = clock()
        for _ in repeat(None, calls):
            run()
        stop = clock()
        samples.append((stop - start) / calls)
        if stop >= end:
            return samples


def fastest(*ways: Run) -> Run:
    """The fastest of several ways to the same result, where a rival offers more than one.

    >>> fastest(lambda: time.sleep(0.02), lambda: "at once")()
    'at once'
    """
    return min(ways, key=lambda run: _least_seconds(run, long=0.2)) if len(ways) > 1 else ways[0]


def _calls_a_sample(run: Run) -> int:
    """As many calls as fill a sample."""
    return max(1, round(_SAMPLE_SECONDS / _least_seconds(run, long=50 * _SAMPLE_SECONDS)))


def _least_seconds(run: Run, long: float) -> float:
    """The fastest of a few calls, because the first ones are cold; a long one is not repeated."""
    least = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - start)
        if least > long:
            break
    return least


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """As `timeit` does: a collection in the middle of a call would be charged to it."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
