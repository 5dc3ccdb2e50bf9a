"""Threads and instruction sets: what is in use, why, and how to choose.

TFCORE_NUM_THREADS sets the number of threads, TFCORE_ISA the instruction set; a wrong value is an error at import.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import _core

__all__ = [
    "available_isas",
    "config",
    "default_threads",
    "get_num_threads",
    "isa",
    "num_threads",
    "set_num_threads",
    "show_config",
    "use_isa",
]


def get_num_threads() -> int:
    """How many threads an operator uses at most.

    >>> get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Let operators use up to n threads, from 1 to 4096. The setting is the process's, not the calling thread's.

    TypeError where n is no integer, ValueError where it is out of range.

    >>> set_num_threads(get_num_threads())
    """
    _core.set_num_threads(n)


def isa() -> str:
    """The instruction set in use: "x86-64-v2", "x86-64-v3", "x86-64-v4" or "neon".

    >>> isa() in available_isas()
    True
    """
    return _core.isa()


def available_isas() -> tuple[str, ...]:
    """The instruction sets that this CPU has and this build holds, the best first.

    >>> len(available_isas()) >= 1
    True
    """
    return _core.available_isas()


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Use up to n threads within a `with` block. The setting is the process's, not the calling thread's.

    >>> with num_threads(1):
    ...     get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Use one of `available_isas()` within a `with` block. The setting is the process's, not the calling thread's.

    >>> with use_isa(available_isas()[-1]):
    ...     isa() == available_isas()[-1]
    True
    """
    before = isa()
    _core.set_isa(name)
    try:
        yield
    finally:
        _core.set_isa(before)


def default_threads(root: str | Path = "/") -> tuple[int, str]:
    """How many threads to use, and why: TFCORE_NUM_THREADS, else the least of what the process may run on.

    That is the CPUs of its affinity mask, its control groups' CPU quota (of versions 1 and 2, at every level, below
    `root`) and OMP_NUM_THREADS.
    """
    wanted = os.environ.get("TFCORE_NUM_THREADS")
    if wanted:
        threads = _count(wanted)
        if not 1 <= threads <= 4096:
            raise ValueError(f"TFCORE_NUM_THREADS is {wanted!r}, expected an integer from 1 to 4096")
        return threads, "TFCORE_NUM_THREADS"
    limits = [(len(os.sched_getaffinity(0)), "CPU affinity")]
    quota = _cgroup_quota(Path(root))
    if quota is not None:
        limits.append((max(1, math.ceil(quota)), f"control group's quota of {quota:g} CPUs"))
    teams = _count(os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip())
    if teams > 0:
        limits.append((teams, "OMP_NUM_THREADS"))
    return min(limits)


def _count(text: str) -> int:
    """Up to nine digits as an integer; 0 for all else."""
    return int(text) if re.fullmatch("[0-9]{1,9}", text) else 0


def _cgroup_quota(root: Path) -> float | None:
    """The tightest CPU quota of this process's control groups, in CPUs; None where there is none or no such files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        if line.count(":") < 2:
            continue
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += _quotas_on_path(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mount in (controllers, "cpu"):
                quotas += _quotas_on_path(root / "sys/fs/cgroup" / mount, path, _quota_v1)
    return min(quotas, default=None)


def _quotas_on_path(mount: Path, path: str, read: Callable[[Path], tuple[float, float]]) -> list[float]:
    """A group's quota and those of all above it; a container often sees its own group mounted as the root."""
    group = mount / path.strip("/")
    found = []
    for folder in (group, *group.parents):
        try:
            quota, period = read(folder)
            if quota > 0 and period > 0:
                found.append(quota / period)
        except (OSError, ValueError):
            pass
        if folder == mount:
            break
    return found


def _quota_v2(folder: Path) -> tuple[float, float]:
    quota, period = (folder / "cpu.max").read_text().split()
    return (0.0 if quota == "max" else float(quota)), float(period)


def _quota_v1(folder: Path) -> tuple[float, float]:
    return float((folder / "cpu.cfs_quota_us").read_text()), float((folder / "cpu.cfs_period_us").read_text())


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def config() -> dict[str, Any]:
    """What `show_config` prints, as a dictionary.

    >>> sorted(config())
    ['compiler', 'cpu', 'isa', 'isas', 'threads', 'threads_reason', 'version']
    """
    default, reason = _threads
    return {
        "version": _core.__version__,
        "cpu": _cpu_name(),
        "isa": isa(),
        "isas": available_isas(),
        "threads": get_num_threads(),
        "threads_reason": reason if get_num_threads() == default else "set_num_threads",
        "compiler": _core.compiler,
    }


def show_config() -> None:
    """Print version, CPU, instruction sets and threads."""
    found = config()
    rows = {
        "tfcore": found["version"],
        "CPU": found["cpu"],
        "instruction set": f"{found['isa']} (available: {', '.join(found['isas'])})",
        "threads": f"{found['threads']} ({found['threads_reason']})",
        "compiler": found["compiler"],
    }
    for name, value in rows.items():
        print(f"{name:<16} {value}")


def _start() -> tuple[int, str]:
    """Does as the environment says. Of what it cannot do, the command says so in its way: importing it ends it."""
    try:
        return _follow_environment()
    except ValueError as error:
        script_or_flag, module = [*sys.orig_argv[1:3], "", ""][:2]
        if os.path.basename(script_or_flag) == "tfcore" or (script_or_flag, module) == ("-m", "tfcore"):
            raise SystemExit(f"tfcore: {error}") from None
        raise


def _follow_environment() -> tuple[int, str]:
    wanted = os.environ.get("TFCORE_ISA")
    if wanted:
        try:
            _core.set_isa(wanted)
        except ValueError as error:
            raise ValueError(f"TFCORE_ISA: {error}") from None
    threads = default_threads()
    set_num_threads(threads[0])
    return threads


_threads = _start()
