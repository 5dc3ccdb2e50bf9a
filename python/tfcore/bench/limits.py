"""What the machine can do at most, measured in the same run as the cases that are held against it.

Arithmetic: chains of fused multiply-adds in registers, on all threads. Memory: all threads read, write or copy arrays
by ordinary loads and stores, of 256 MiB in all, far beyond the L2 caches. A large L3 holds what many cases touch, so a
case that is bound by memory is held against the same stream over as many bytes as it moves itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from .harness import Case

__all__ = ["ARITHMETIC", "KINDS", "MEMORY", "hold_against", "measure", "name"]

ARITHMETIC = ("fma_float32", "fma_float64")
MEMORY = ("read", "write", "copy")
KINDS = ARITHMETIC + MEMORY

_FLOPS = 2 * 10**9  # some milliseconds
_FAR = 2**28


def name(kind: str, amount: float | None = None) -> str:
    """The name of a limit in the results; that of a stream ends in its size, unless it is the large one.

    >>> name("fma_float32", 1e9), name("copy"), name("copy", 2**25)
    ('fma_float32', 'copy', 'copy 33.6 MB')
    """
    return kind if kind in ARITHMETIC or amount is None else f"{kind} {amount / 1e6:.1f} MB"


def probes(cases: Iterable[Case]) -> dict[str, tuple[str, int]]:
    """The limits that these cases need: name → kind and amount."""
    needed: dict[str, tuple[str, int]] = {}
    for case in cases:
        if case.limit:
            needed[case.limit] = (case.limit, _FLOPS if case.limit in ARITHMETIC else _FAR)
        if case.limit in MEMORY:
            needed[name(case.limit, case.work)] = (case.limit, int(case.work))
    return needed


def measure(cases: Iterable[Case], rounds: int, before: Mapping[str, float] | None = None) -> dict[str, float]:
    """The limits that these cases need, in GFLOP/s or GB/s: the best of all rounds and of what was measured `before`.

    The best, because a machine is slowed down by its neighbours but never sped up.
    """
    best = dict(before or {})
    needed = probes(cases)
    for _ in range(rounds):
        for limit, (kind, amount) in needed.items():
            best[limit] = max(best.get(limit, 0.0), amount / _core.probe(kind, amount) / 1e9)
    return best


def hold_against(limits: Mapping[str, float], cases: Iterable[dict[str, Any]]) -> None:
    """Gives each measured case `limit_rate`, in its own unit, and `share`, tfcore's rate over it; None without a limit.

    >>> case = {"limit": "read", "rivals": {"tfcore": {"rate": 15.0}}}
    >>> hold_against({"read": 20.0}, [case])
    >>> case["limit_rate"], case["share"]
    (20.0, 0.75)
    """
    for case in cases:
        rate = limits[case["limit"]] if case["limit"] else None
        case["limit_rate"] = rate
        case["share"] = case["rivals"]["tfcore"]["rate"] / rate if rate else None
