"""A run: the machine's limits, the cases one by one, and all that must be said beside the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from . import limits, machine, scaling
from .harness import Case, Contest, measure
from .progress import Progress
from .timing import FULL, Protocol

__all__ = ["Session", "run"]


class Session:
    """Measures cases, and the limits that they need: before the first case, after each its own, and after the last. The
    largest counts, since a machine is slow for seconds at a time.

    >>> from .cases import CASES
    >>> from .timing import QUICK
    >>> session = Session([case for case in CASES if "one call" in case.name], QUICK)
    >>> session.measure(session.cases[0])["name"]
    'one call attention float32 1,1,1,5,64'
    >>> len(session.results()["cases"])
    1
    """

    def __init__(self, cases: Iterable[Case], protocol: Protocol = FULL) -> None:
        self.cases, self._protocol = list(cases), protocol
        self._limits: dict[str, float] = {}
        self._done: list[dict[str, Any]] = []
        self._left_out: dict[str, str] = {}

    def measure(
        self, case: Case, contest: Contest | None = None, advance: Callable[[float], None] = lambda share: None
    ) -> dict[str, Any] | None:
        """As `harness.measure`; the result is also kept. `contest` is the case's, if it is made already."""
        with machine.same_threads():
            if not self._done:
                self._measure_limits()
            result = measure(case, self._protocol, contest, self._left_out, advance)
            self._limits = limits.measure([case], 1, self._limits)
        if result is not None:
            self._done.append(result)
        return result

    def _measure_limits(self) -> None:
        self._limits = limits.measure(self.cases, self._protocol.rounds // 2 + 1, self._limits)

    def results(self, complete: bool = True) -> dict[str, Any]:
        """All that was measured. JSON can hold it.

        Returns
        -------
        dict
            `tfcore` (version), `date`, `machine` (CPU, instruction set, versions), `threads` of each rival, `protocol`,
            `limits` (name → GFLOP/s or GB/s), `cases` (see `harness.measure`; and `limit_rate`, `share`), `left_out`
            (what is not installed → why), `complete`.
        """
        with machine.same_threads():
            if complete and self._done:
                self._measure_limits()
            about = machine.describe(self._done)
        limits.hold_against(self._limits, self._done)
        return {
            **about,
            "protocol": vars(self._protocol),
            "limits": self._limits,
            "cases": self._done,
            "left_out": self._left_out,
            "complete": complete,
        }


def run(
    cases: Iterable[Case],
    protocol: Protocol = FULL,
    progress: Progress | None = None,
    *,
    with_scaling: bool = False,
) -> dict[str, Any]:
    """Measures case by case. Ctrl-C ends it early: what is done by then is returned, with `complete` False.

    Returns
    -------
    dict
        As `Session.results`; `scaling` too if asked for (see `scaling.measure`).
    """
    progress, session, lengths = progress or Progress(), Session(cases, protocol), []
    complete = False
    try:
        for case in session.cases:
            progress.begin(case.name)
            session.measure(case, advance=progress.advance)
            progress.end()
        for length in scaling.LENGTHS if with_scaling else ():
            progress.begin(f"scaling to {length} keys")
            lengths.append(scaling.measure(length, protocol, progress.advance))
            progress.end()
        complete = True
    except KeyboardInterrupt:
        pass
    results = session.results(complete)
    return {**results, "scaling": lengths} if with_scaling else results
