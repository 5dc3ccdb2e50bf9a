"""Time and memory of attention as it grows: one head of 64 columns over itself, without a mask."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import exact, harness
from .attention_cases import attention, rivals_on
from .timing import Protocol, Run

__all__ = ["LENGTHS", "added_by_call", "added_memory", "measure"]

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)

_RIVALS = ("tfcore", "numpy", "torch")
_SIZE = 64
_FIRST = 64  # keys of a first call, so that what is loaded and started once is not counted
_PAGE = 4096
_PROCESS = Path("/proc/self")


def measure(length: int, protocol: Protocol, advance: Callable[[float], None] = lambda share: None) -> dict[str, Any]:
    """`length`, `seconds` (rival → median of a call) and `added_bytes` (rival → growth of the peak memory)."""
    case = attention(1, 1, length, length, _SIZE)
    contest = case.make()
    contest = replace(contest, rivals={name: contest.rivals[name] for name in _RIVALS})
    result = harness.measure(case, protocol, contest, {}, advance)
    rivals = result["rivals"] if result else {}
    return {
        "length": length,
        "seconds": {name: rival["median_s"] for name, rival in rivals.items()},
        "added_bytes": {name: added_memory(name, length) for name in rivals},
    }


def added_memory(rival: str, length: int) -> int:
    """`added_by_call` in a fresh process, whose arrays do not hide in memory that others have given back."""
    code = f"from tfcore.bench import scaling; print(scaling.added_by_call({rival!r}, {length}))"
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return int(done.stdout)


def added_by_call(rival: str, length: int) -> int:
    """Bytes by which a call raises this process's peak above what it holds before, inputs included; a page at least."""
    _prepared(rival, _FIRST)()
    run = _prepared(rival, length)
    with suppress(OSError):  # where it may not be reset, the peak so far stands, and the growth is told too small
        (_PROCESS / "clear_refs").write_text("5")
    before = _peak()
    run()
    return max(_peak() - before, _PAGE)


def _prepared(rival: str, length: int) -> Run:
    return rivals_on(*(exact.normal(1, 1, length, _SIZE, seed=i) for i in range(3)))[rival]()


def _peak() -> int:
    """Linux tells it in KiB; `resource.getrusage` would begin at the parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text())
    if not found:
        raise OSError("/proc/self/status does not tell the peak memory")
    return 1024 * int(found[1])
