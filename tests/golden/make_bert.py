"""Records what Transformers computes for the small checkpoints of tests/checkpoints.py: golden/bert.npz.

Run with torch and transformers installed:  python tests/golden/make_bert.py
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import BertForMaskedLM, BertModel

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from checkpoints import VARIANTS, batch, write_variant  # noqa: E402


def main() -> None:
    inputs = {name: torch.tensor(value) for name, value in batch().items()}
    recorded: dict[str, np.ndarray] = {}
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            model = load(write_variant(Path(folder), variant), has_head="masked_lm" in variant)
            output = model(**inputs, output_hidden_states=True, output_attentions=True)
        recorded[f"{variant}.hidden_states"] = torch.stack(output.hidden_states).numpy()
        recorded[f"{variant}.attentions"] = torch.stack(output.attentions).numpy()
        if output.pooler_output is not None:
            recorded[f"{variant}.pooler_output"] = output.pooler_output.numpy()
    np.savez_compressed(HERE / "bert.npz", **recorded)


def load(folder: Path, *, has_head: bool) -> torch.nn.Module:
    if has_head:
        return BertForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval().bert
    return BertModel.from_pretrained(folder, attn_implementation="eager").eval()


if __name__ == "__main__":
    main()
