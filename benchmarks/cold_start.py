"""From the start of a process to its first result, and the most memory it took: python benchmarks/cold_start.py

Each line is the median of several fresh processes, files in the system's cache: a sentence's vector by
all-MiniLM-L6-v2, the first token that SmolLM2-135M-Instruct writes. Both packages of weights are needed (see
CONTRIBUTING.md).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from statistics import median

ROUNDS = 7
STARTS = {
    "import numpy": "import numpy",
    "import tfcore": "import tfcore",
    "first vector": """
from tfcore import SentenceEncoder
from tfcore.carried import minilm_folder
assert SentenceEncoder(minilm_folder()).encode("Hello!").shape == (384,)
""",
    "first token": """
from tfcore import AutoModelForCausalLM, AutoTokenizer
from tfcore.carried import smollm2_file
file = smollm2_file()
tokenizer, model = AutoTokenizer.from_pretrained(file), AutoModelForCausalLM.from_pretrained(file)
ids = tokenizer("Once upon a time", return_tensors="np").input_ids
assert model.generate(ids, max_new_tokens=1).shape == (1, ids.shape[1] + 1)
""",
}


def start(code: str) -> tuple[float, float]:
    """Seconds and peak MB of one process that runs `code`."""
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a process that was to be timed ended with status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    print(f"{'from process start to':<24}{'seconds':>10}{'peak MB':>10}")
    for name, code in STARTS.items():
        start(code)
        rounds = [start(code) for _ in range(ROUNDS)]
        seconds, peak = (median(column) for column in zip(*rounds, strict=True))
        print(f"{name:<24}{seconds:>10.3f}{peak:>10.0f}")


if __name__ == "__main__":
    main()
