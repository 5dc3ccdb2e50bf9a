"""Records what PyTorch computes for the cases of tests/nn_cases.py, and T5's buckets: golden/nn.npz.

Run with torch and transformers installed:  python tests/golden/make_nn.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers.models.t5.modeling_t5 import T5Attention

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from nn_cases import BUCKETS, KINDS, RECORDED, draw_case, run_torch  # noqa: E402


def main() -> None:
    recorded: dict[str, np.ndarray] = {}
    for kind in KINDS:
        for number in range(RECORDED):
            for i, result in enumerate(run_torch(draw_case(kind, number))):
                recorded[f"{kind}.{number}.{i}"] = result
    distances = torch.arange(-300, 301)
    for name, (bidirectional, buckets, furthest) in BUCKETS.items():
        found = T5Attention._relative_position_bucket(distances, bidirectional, buckets, furthest)
        recorded[f"buckets.{name}"] = found.numpy().astype(np.uint8)
    np.savez_compressed(HERE / "nn.npz", **recorded)


if __name__ == "__main__":
    main()
