"""Memory that a process holds after ever more texts were embedded: python benchmarks/memory.py [TEXTS ...]

Texts are the shorter paragraphs of `tfcore.bench.corpus`, so that 100 000 take minutes, in calls of 1 000. The package
of MiniLM's weights is needed (see CONTRIBUTING.md). Only Linux tells what a process holds.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import tfcore
from tfcore.bench.corpus import paragraphs
from tfcore.carried import minilm_folder

STEP = 1000
SHORT = 80  # characters


def resident() -> float:
    """MB of this process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main(marks: list[int]) -> None:
    encoder = tfcore.SentenceEncoder(minilm_folder())
    texts = [text for text in paragraphs(1500) if len(text) <= SHORT]
    print(f"{'texts':>10}{'MB':>10}")
    for done in range(STEP, max(marks) + 1, STEP):
        encoder.encode([f"{texts[row % len(texts)]} {row}" for row in range(done - STEP, done)])
        if done in marks:
            print(f"{done:>10}{resident():>10.1f}", flush=True)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [1000, 10_000, 100_000])
