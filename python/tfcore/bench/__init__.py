"""`tfcore bench`: tfcore beside NumPy and whichever peers are installed, on the shapes people use.

A case is a line in `cases.py`; its rivals are one line each. Every rival is checked against a float64 result before it
is timed (`harness.py`), rivals take turns, block by block, within one process (`timing.py`), and what the machine can
do at most is measured in the same run (`limits.py`).

    from tfcore import bench
    results = bench.run(bench.select("attention"))
    print(bench.report.text(results))
"""

from __future__ import annotations

from . import report
from .cases import CASES
from .harness import Case, Contest, Target, WrongResultError, measure, verify
from .session import Session, run
from .timing import FULL, QUICK, Protocol, Timing, interleave

__all__ = [
    "CASES",
    "FULL",
    "QUICK",
    "Case",
    "Contest",
    "Protocol",
    "Session",
    "Target",
    "Timing",
    "WrongResultError",
    "interleave",
    "measure",
    "report",
    "run",
    "select",
    "verify",
]


def select(text: str = "", *, everything: bool = False) -> list[Case]:
    """The cases whose name or group contains `text`; without a text the short selection, or `everything`.

    >>> [case.name for case in select("positional")]
    ['drop-in positional_encoding 8192x512', 'positional_encoding float32 8192x512']
    >>> len(select()) < len(select(everything=True))
    True
    """
    if not text:
        return [case for case in CASES if case.short or everything]
    found = [case for case in CASES if text in case.name or text in case.group]
    if not found:
        groups = ", ".join(dict.fromkeys(case.group for case in CASES))
        raise ValueError(f"no case's name or group contains {text!r}; the groups are: {groups}")
    return found
