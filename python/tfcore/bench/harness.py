"""Verify, then time: rivals on the same input, in one process, taking turns.

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
from numpy.typing import NDArray

__all__ = [
    "FULL",
    "QUICK",
    "Case",
    "Contest",
    "Protocol",
    "Timing",
    "WrongResultError",
    "interleave",
    "measure",
    "verify",
]

Run = Callable[[], Any]

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
class Contest:
    """A case with its inputs made.

    Attributes
    ----------
    rivals : name → a function that prepares this rival and returns the call to time. "tfcore" is one of them. One whose
        package is missing raises ImportError and is left out.
    want : the result in float64.
    bound : the largest absolute error allowed, one number or one for each element.
    work : how much a call does: floating-point operations (2 a multiply-add), or bytes written.
    work_unit : "FLOP" or "B".
    """

    rivals: Mapping[str, Callable[[], Run]]
    want: NDArray[np.float64]
    bound: float | NDArray[np.float64]
    work: float
    work_unit: str = "FLOP"


@dataclass(frozen=True)
class Case:
    """A name and the function that makes the inputs, called when the case's turn comes."""

    name: str
    group: str
    make: Callable[[], Contest]


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


class WrongResultError(ValueError):
    """A rival's result is off by more than its bound: its time would mean nothing."""


def measure(
    case: Case,
    protocol: Protocol,
    left_out: dict[str, str] | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, Any] | None:
    """Verifies and times all rivals of a case that are installed; the others go into `left_out`, with the reason.

    Returns
    -------
    dict or None
        `name`, `group`, `rivals` (name → `median_s`, `best_decile_s`, `rate`, `calls`, `max_error`), `rate_unit`,
        `best_peer` and `ratio`, its median over tfcore's (both None without peers). None if tfcore itself is left out.
    """
    return compete(case, case.make(), protocol, {} if left_out is None else left_out, advance)


def compete(
    case: Case, contest: Contest, protocol: Protocol, left_out: dict[str, str], advance: Callable[[float], None]
) -> dict[str, Any] | None:
    """`measure`, the inputs being made."""
    rivals = prepare(contest.rivals, left_out)
    if "tfcore" not in rivals:
        left_out[case.name] = left_out.pop("tfcore")
        return None
    errors = verify(case.name, rivals, contest.want, contest.bound)
    timings = interleave(rivals, protocol, advance)
    medians = {name: timing.median for name, timing in timings.items()}
    best_peer = min(medians.keys() - {"tfcore"}, key=medians.__getitem__, default=None)
    return {
        "name": case.name,
        "group": case.group,
        "rivals": {
            name: {
                "median_s": timing.median,
                "best_decile_s": timing.best_decile,
                "rate": contest.work / timing.median / 1e9,
                "calls": timing.calls,
                "max_error": errors[name],
            }
            for name, timing in timings.items()
        },
        "rate_unit": f"G{contest.work_unit}/s",
        "best_peer": best_peer,
        "ratio": medians[best_peer] / medians["tfcore"] if best_peer else None,
    }


def prepare(rivals: Mapping[str, Callable[[], Run]], left_out: dict[str, str]) -> dict[str, Run]:
    """Each rival's call; `left_out` gets those whose package is missing, and why."""
    prepared = {}
    for name, prepare in rivals.items():
        try:
            prepared[name] = prepare()
        except ImportError as error:  # noqa: PERF203
            left_out[name] = str(error)
    return prepared


def verify(
    case: str, rivals: Mapping[str, Run], want: NDArray[np.float64], bound: float | NDArray[np.float64]
) -> dict[str, float]:
    """Each rival's largest error. Raises `WrongResultError` unless error <= bound everywhere, so a NaN is caught.

    >>> want = np.array([1.0, 2.0])
    >>> verify("doubling", {"tfcore": lambda: np.array([1.0, 2.25])}, want, bound=0.5)
    {'tfcore': 0.25}
    >>> verify("doubling", {"tfcore": lambda: np.array([1.0, np.nan])}, want, bound=0.5)
    Traceback (most recent call last):
    tfcore.bench.harness.WrongResultError: doubling: tfcore is wrong: error nan at (1,), allowed 0.5
    """
    errors = {}
    for name, run in rivals.items():
        got = np.asarray(run())
        if got.shape != want.shape:
            raise WrongResultError(f"{case}: {name} is wrong: shape {got.shape}, expected {want.shape}")
        error = np.abs(got.astype(np.float64) - want)
        allowed = np.broadcast_to(bound, want.shape)
        fine = error <= allowed
        if not fine.all():
            excess = np.where(fine, -np.inf, np.nan_to_num(error - allowed, nan=np.inf))
            at = np.unravel_index(int(np.argmax(excess)), want.shape)
            where = tuple(int(i) for i in at)
            raise WrongResultError(
                f"{case}: {name} is wrong: error {error[at]:.3g} at {where}, allowed {allowed[at]:.3g}"
            )
        errors[name] = float(error.max(initial=0.0))
    return errors


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
    with _no_garbage_collection():
        for turn in range(protocol.rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                time.sleep(protocol.pause_seconds)
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


def _calls_a_sample(run: Run) -> int:
    """As many calls as fill a sample; the fastest of a few, because the first ones are cold."""
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
        if fastest > 50 * _SAMPLE_SECONDS:
            break
    return max(1, round(_SAMPLE_SECONDS / fastest))


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
