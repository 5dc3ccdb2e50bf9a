"""Verify, then time: a case's rivals work on the same input, and none is timed whose result is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import limits
from .timing import Protocol, Run, interleave

__all__ = ["Case", "Contest", "Prepare", "Target", "WrongResultError", "measure", "prepare", "verify"]

Float64 = NDArray[np.float64]
Prepare = Callable[[], Run]


@dataclass(frozen=True)
class Contest:
    """A case with its inputs made.

    Attributes
    ----------
    rivals : name → a function that prepares this rival and returns the call to time. "tfcore" is one of them. One whose
        package is missing raises ImportError and is left out.
    want : the result in float64.
    bound : the largest absolute error allowed, one number or one for each element.
    bounds : rival → its own bound, where it works on other numbers by design, as with weights of 4 bits.
    layouts : rival → what brings its result into the layout of `want`, when it is verified and outside of the timing.
    asides : description → other work of tfcore, prepared alike, timed in the same turns to be compared with; other
        cases and the tests verify it.
    work : how much a call does, where the case cannot say before its inputs are made, as with text; else None.
    """

    rivals: Mapping[str, Prepare]
    want: Float64
    bound: float | Float64
    bounds: Mapping[str, float] = field(default_factory=dict)
    layouts: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    asides: Mapping[str, Prepare] = field(default_factory=dict)
    work: float | None = None


@dataclass(frozen=True)
class Target:
    """What a case is meant to reach: the best peer's time over tfcore's, the share of the limit (None: not set), and
    the times of single peers, by name, over tfcore's."""

    ratio: float = 1.0
    share: float | None = None
    over: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """What is measured, and the function that makes the inputs, called when the case's turn comes.

    Attributes
    ----------
    work : how much a call does: floating-point operations, 2 a multiply-add; where memory is the limit, the bytes that
        it has to read and write. The contest's own, where it has one.
    limit : what bounds its speed, one of `limits.KINDS`; None where overhead does.
    target : what it is meant to reach.
    short : whether it belongs to the short selection.
    """

    name: str
    group: str
    make: Callable[[], Contest]
    work: float = 0.0
    limit: str | None = None
    target: Target = Target()
    short: bool = False

    def aims(self, ratio: float = 1.0, share: float | None = None, **over: float) -> Case:
        """The same case with a target; `over` names peers."""
        return replace(self, target=Target(ratio, share, over))


class WrongResultError(ValueError):
    """A rival's result is off by more than its bound: its time would mean nothing."""


def measure(
    case: Case,
    protocol: Protocol,
    contest: Contest | None = None,
    left_out: dict[str, str] | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, Any] | None:
    """Verifies and times all rivals of a case that are installed; the others go into `left_out`, with the reason.

    `contest` is the case's own unless given.

    Returns
    -------
    dict or None
        `name`, `group`, `short`, `rivals` (name → `median_s`, `best_decile_s`, `rate`, `calls`, `max_error`), `asides`
        (description → `median_s`), `rate_unit`, `best_peer` and `ratio`, its median over tfcore's (both None without
        peers), `limit` (its name in the run's limits, or None), `target`. None if tfcore is left out, or what
        the case is made of.
    """
    left_out = {} if left_out is None else left_out
    try:
        contest = contest or case.make()
    except ImportError as error:
        left_out[case.name] = str(error)
        return None
    rivals = prepare(contest.rivals, left_out)
    if "tfcore" not in rivals:
        left_out[case.name] = left_out.pop("tfcore")
        return None
    errors = verify(case.name, rivals, contest)
    asides = {name: prepare() for name, prepare in contest.asides.items()}
    work = case.work if contest.work is None else contest.work
    timings = interleave({**rivals, **asides}, protocol, advance)
    medians = {name: timings[name].median for name in rivals}
    best_peer = min(medians.keys() - {"tfcore"}, key=medians.__getitem__, default=None)
    return {
        "name": case.name,
        "group": case.group,
        "short": case.short,
        "rivals": {
            name: {
                "median_s": timings[name].median,
                "best_decile_s": timings[name].best_decile,
                "rate": work / timings[name].median / 1e9,
                "calls": timings[name].calls,
                "max_error": errors[name],
            }
            for name in rivals
        },
        "asides": {name: {"median_s": timings[name].median} for name in asides},
        "rate_unit": "GB/s" if case.limit in limits.MEMORY else "GFLOP/s",
        "best_peer": best_peer,
        "ratio": medians[best_peer] / medians["tfcore"] if best_peer else None,
        "limit": limits.name(case.limit, work) if case.limit else None,
        "target": asdict(case.target),
    }


def prepare(rivals: Mapping[str, Prepare], left_out: dict[str, str]) -> dict[str, Run]:
    """Each rival's call; `left_out` gets those whose package is missing, and why."""
    prepared = {}
    for name, prepare in rivals.items():
        try:
            prepared[name] = prepare()
        except ImportError as error:  # noqa: PERF203
            left_out[name] = str(error)
    return prepared


def verify(case: str, rivals: Mapping[str, Run], contest: Contest) -> dict[str, float]:
    """Each rival's largest error. Raises `WrongResultError` unless error <= bound everywhere, so a NaN is caught.

    >>> contest = Contest({}, want=np.array([1.0, 2.0]), bound=0.5)
    >>> verify("doubling", {"tfcore": lambda: np.array([1.0, 2.25])}, contest)
    {'tfcore': 0.25}
    >>> verify("doubling", {"tfcore": lambda: np.array([1.0, np.nan])}, contest)
    Traceback (most recent call last):
    tfcore.bench.harness.WrongResultError: doubling: tfcore is wrong: error nan at (1,), allowed 0.5
    """
    layouts = contest.layouts
    return {
        name: _largest_error(
            f"{case}: {name}",
            layouts.get(name, np.asarray)(run()),
            contest.want,
            contest.bounds.get(name, contest.bound),
        )
        for name, run in rivals.items()
    }


def _largest_error(whose: str, result: Any, want: Float64, bound: float | Float64) -> float:
    got = np.asarray(result)
    if got.shape != want.shape:
        raise WrongResultError(f"{whose} is wrong: shape {got.shape}, expected {want.shape}")
    error = np.abs(got.astype(np.float64) - want)
    allowed = np.broadcast_to(bound, want.shape)
    fine = error <= allowed
    if not fine.all():
        excess = np.where(fine, -np.inf, np.nan_to_num(error - allowed, nan=np.inf))
        at = np.unravel_index(int(np.argmax(excess)), want.shape)
        where = tuple(int(i) for i in at)
        raise WrongResultError(f"{whose} is wrong: error {error[at]:.3g} at {where}, allowed {allowed[at]:.3g}")
    return float(error.max(initial=0.0))
