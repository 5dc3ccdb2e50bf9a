"""`tfcore bench`: tfcore beside NumPy and whichever peers are installed, on the shapes people use.

A case is a line in `cases.py`; its rivals are one line each. Every rival is checked against a float64 result before it
is timed, and rivals take turns, block by block, within one process (`harness.py` says how).

    from tfcore import bench
    results = bench.run(bench.select("attention"))
    print(bench.report.text(results))
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import machine, plot, report
from .cases import CASES
from .harness import FULL, QUICK, Case, Contest, Protocol, Timing, WrongResultError, interleave, measure, verify
from .progress import Progress, show_progress

__all__ = [
    "CASES",
    "FULL",
    "QUICK",
    "Case",
    "Contest",
    "Protocol",
    "Timing",
    "WrongResultError",
    "interleave",
    "main",
    "measure",
    "report",
    "run",
    "select",
    "verify",
]


def main(options: argparse.Namespace) -> None:
    """Measures, then prints a table or JSON, and draws. Ctrl-C ends it early, with what is done by then.

    Parameters
    ----------
    options : `only` (a part of the cases' names), `quick`, `json`, `plot` (a file, or None).
    """
    cases = select(options.only)
    picture = Path(options.plot) if options.plot else None
    if picture:
        plot.check(picture)  # before minutes of work, not after
    with show_progress(len(cases)) as progress:
        results = run(cases, QUICK if options.quick else FULL, progress)
    if options.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    else:
        report.show(results)
    if picture and results["cases"]:
        plot.draw(results, picture)
        print(f"{picture}: written", file=sys.stderr)
    if not results["complete"]:
        raise KeyboardInterrupt


def select(text: str = "") -> list[Case]:
    """The cases whose name contains `text`.

    >>> [case.name for case in select("positional")]
    ['drop-in positional_encoding 4096x512']
    """
    found = [case for case in CASES if text in case.name]
    if not found:
        raise ValueError(f"no case's name contains {text!r}; the cases are: {', '.join(case.name for case in CASES)}")
    return found


def run(cases: Iterable[Case], protocol: Protocol = FULL, progress: Progress | None = None) -> dict[str, Any]:
    """Measures case by case. Ctrl-C ends it early: what is done by then is returned, with `complete` False.

    Returns
    -------
    dict
        `tfcore` (version), `date`, `machine` (CPU, instruction set, versions), `threads` of each rival, `protocol`,
        `cases` (see `harness.measure`), `left_out` (what is not installed → why), `complete`. JSON can hold it.
    """
    progress = progress or Progress()
    done: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with machine.same_threads():
        complete = _measure_all(cases, protocol, progress, done, left_out)
        about = machine.describe(done)
    return {**about, "protocol": vars(protocol), "cases": done, "left_out": left_out, "complete": complete}


def _measure_all(
    cases: Iterable[Case],
    protocol: Protocol,
    progress: Progress,
    done: list[dict[str, Any]],
    left_out: dict[str, str],
) -> bool:
    """Appends to `done` and adds to `left_out`; False if interrupted."""
    try:
        for case in cases:
            progress.begin(case.name)
            result = measure(case, protocol, left_out, progress.advance)
            if result is not None:
                done.append(result)
            progress.end()
    except KeyboardInterrupt:
        return False
    return True
