"""Records what Transformers generates with the model of tests/tables.py: golden/generation.json.

Run with torch, transformers and tokenizers installed:  python tests/golden/make_generation.py
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.modeling_outputs import CausalLMOutput

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import AFTER, BEFORE, BYTES, CASES, PAD, PROMPTS, V  # noqa: E402


class TableConfig(PretrainedConfig):
    model_type = "tables"
    vocab_size = V


class Tables(PreTrainedModel, GenerationMixin):
    config_class = TableConfig
    _is_stateful = True  # no cache is kept

    def __init__(self, config):
        super().__init__(config)
        self.after = torch.nn.Parameter(torch.tensor(AFTER))
        self.before = torch.nn.Parameter(torch.tensor(BEFORE))
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, input_ids, attention_mask=None, **_):
        scores = self.after[input_ids]
        if input_ids.shape[1] > 1:
            before = self.before[input_ids[:, :-1]]
            if attention_mask is not None:
                before = before * attention_mask[:, : input_ids.shape[1] - 1, None]
            scores = torch.cat([scores[:, :1], scores[:, 1:] + before], dim=1)
        return CausalLMOutput(logits=scores)


def tokenizer() -> PreTrainedTokenizerFast:
    """The texts of `BYTES` as a byte-level vocabulary."""
    letters = bytes_to_unicode()
    vocabulary = {"".join(letters[byte] for byte in text): token for token, text in enumerate(BYTES[:PAD])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def trimmed(sequence: torch.Tensor, prompt: list[int]) -> list[int]:
    """Without the padding, which no text holds."""
    tokens = sequence.tolist()
    return prompt + [token for token in tokens[len(prompt) :] if token not in (PAD, -1)]


def generated(model: Tables, case: dict) -> dict[str, list]:
    extra = {"tokenizer": tokenizer()} if "stop_strings" in case else {}
    record: dict[str, list] = {"sequences": [], "scores": []}
    for prompt in PROMPTS:
        output = model.generate(
            torch.tensor([prompt]),
            pad_token_id=PAD,
            use_cache=False,
            return_dict_in_generate=True,
            output_scores=True,
            **extra,
            **case,
        )
        record["sequences"] += [trimmed(sequence, prompt) for sequence in output.sequences]
        if "num_beams" in case:
            record["scores"] += output.sequences_scores.tolist()
    return record


def main() -> None:
    model = Tables(TableConfig()).eval()
    with torch.no_grad():
        record = {name: generated(model, case) for name, case in CASES.items()}
    lines = (f"{json.dumps(name)}: {json.dumps(found)}" for name, found in record.items())
    (HERE / "generation.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
