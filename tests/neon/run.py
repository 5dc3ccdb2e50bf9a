#!/usr/bin/env python3
"""Do the NEON kernels give the bits of the x86-64-v3 kernels, which the other tests verify?

Builds driver.cpp with the kernels of both, the one with a cross compiler, runs both on the same inputs, the one in
QEMU, and compares every number. NaN equals NaN; sines of angles so large that they are the C library's may differ by
one unit in the last place. Leaves 1 when anything else differs. No part of the tests that pytest runs.

    python3 tests/neon/run.py [FOLDER]     builds in FOLDER, build/neon by default
"""

from __future__ import annotations

import math
import platform
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "aarch64-linux-gnu"
NEEDED = {"cmake": "cmake", "g++": "g++", f"{PREFIX}-g++": f"g++-{PREFIX}", "qemu-aarch64": "qemu-user"}
TARGET = ["-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={PREFIX}-g++"]


@dataclass
class Record:
    """One result: what was computed, how it is to be compared ("bits" or "libm"), its numbers' bytes and their size."""

    kernel: str
    dtype: str
    case: str
    how: str
    size: int
    data: bytes

    def number(self, i: int) -> float:
        return struct.unpack_from("<f" if self.size == 4 else "<d", self.data, i * self.size)[0]

    def pattern(self, i: int) -> int:
        return int.from_bytes(self.data[i * self.size : (i + 1) * self.size], "little", signed=True)


def check_needs() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        sys.exit("run.py: this compares with the kernels of x86-64-v3, and needs an x86-64 machine to run them")
    missing = [package for command, package in NEEDED.items() if not shutil.which(command)]
    if missing:
        sys.exit(f"run.py: please install {' '.join(missing)}, as the packages are named on Debian and Ubuntu")


def run(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}run.py: left with {done.returncode}: {' '.join(map(str, command))}")


def build(folder: Path, targets: list[str], *options: str) -> None:
    run("cmake", "-S", ROOT, "-B", folder, "-DTFCORE_KERNEL_DRIVER=ON", *options)
    run("cmake", "--build", folder, "--parallel", "--target", *targets)


def read(path: Path) -> list[Record]:
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        names, sizes = data.index(b"\n", at), data.index(b"\n", data.index(b"\n", at) + 1)
        kernel, dtype, case, how = data[at:names].decode().split("|")
        count, size = map(int, data[names + 1 : sizes].split())
        at = sizes + 1 + count * size
        records.append(Record(kernel, dtype, case, how, size, data[sizes + 1 : at]))
    return records


def same(a: Record, b: Record, i: int) -> bool:
    if a.pattern(i) == b.pattern(i):
        return True
    if a.how != "libm" or math.isnan(a.number(i)) or math.isnan(b.number(i)):
        return False
    return abs(a.pattern(i) - b.pattern(i)) <= 1


def first_difference(a: Record, b: Record) -> int | None:
    """The index of the first number that differs."""
    if a.data == b.data:
        return None
    return next((i for i in range(len(a.data) // a.size) if not same(a, b, i)), None)


def compare(neon: list[Record], x86: list[Record]) -> bool:
    """Prints a table of what was compared, and each kernel's first difference."""
    label = [(r.kernel, r.dtype, r.case, r.how, len(r.data)) for r in neon]
    if label != [(r.kernel, r.dtype, r.case, r.how, len(r.data)) for r in x86]:
        sys.exit("run.py: the two drivers did not run the same cases")
    groups: dict[tuple[str, str], list[tuple[Record, Record]]] = {}
    for pair in zip(neon, x86, strict=True):
        groups.setdefault((pair[0].kernel, pair[0].dtype), []).append(pair)
    print(f"{'kernel':<13}{'type':<9}{'cases':>7}{'numbers':>11}   neon and x86-64-v3")
    good = True
    for (kernel, dtype), pairs in groups.items():
        differing = [(a, b, i) for a, b in pairs if (i := first_difference(a, b)) is not None]
        numbers = sum(len(a.data) // a.size for a, _ in pairs)
        result = f"{len(differing)} cases DIFFER" if differing else "same bits"
        print(f"{kernel:<13}{dtype:<9}{len(pairs):>7}{numbers:>11}   {result}")
        for a, b, i in differing[:1]:
            print(f"    {a.case}, number {i}: {a.number(i)!r} and {b.number(i)!r}, {a.pattern(i) - b.pattern(i):+} ulp")
        good = good and not differing
    return good


def main() -> int:
    check_needs()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "neon"
    build(folder / "x86", ["driver_x86_64_v3"])
    build(folder / "neon", ["driver_neon", "above_kernels"], *TARGET)
    files = [folder / "neon.bin", folder / "x86.bin"]
    run("qemu-aarch64", "-L", f"/usr/{PREFIX}", folder / "neon" / "driver_neon", files[0])
    run(folder / "x86" / "driver_x86_64_v3", files[1])
    return 0 if compare(*map(read, files)) else 1


if __name__ == "__main__":
    sys.exit(main())
