"""Records what Transformers computes for tiny checkpoints of every family and head: golden/families/*.npz.

Run with torch and transformers installed:

    python tests/golden/make_families.py [FAMILY…]      records, for all families or these
    python tests/golden/make_families.py --check        opens every recording in Transformers and compares

Models run in float64 and their outputs are stored as float32. A generating head is recorded with the first seed whose
tokens are clear: no choice by less than MARGIN, the same beams after a disturbance of the weights, one text that stops
early and one that does not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from family_checkpoints import (  # noqa: E402
    FOLDER,
    GENERATING,
    HEADS,
    Recording,
    recordings,
    save,
    tensors,
    write_checkpoint,
)

MARGIN = 5e-3
CLOSE = 2e-5
NEW_TOKENS = 10
SEEDS = 1000
VOCABULARY = 64
CAPTURED = (
    "last_hidden_state",
    "pooler_output",
    "hidden_states",
    "attentions",
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "encoder_attentions",
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
    "logits",
    "start_logits",
    "end_logits",
)

SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}
ROBERTA = SMALL | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
LLAMA = SMALL | {"num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 40,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
}
BART = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 32,
}
MARIAN = BART | {
    "pad_token_id": VOCABULARY - 1,
    "decoder_start_token_id": VOCABULARY - 1,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "scale_embedding": True,
    "activation_function": "swish",
}
TASKS = ("sequence_classification", "token_classification", "question_answering")
ENCODERS, DECODERS, SEQ2SEQ = (("base", head, *TASKS) for head in ("masked_lm", "causal_lm", "seq2seq_lm"))
BARE, LM, BOTH = ("base",), ("causal_lm",), ("base", "causal_lm")


def rope(kind: str, **fields: object) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 100.0, **fields}}


def longrope(*, original: int) -> dict:
    factors = {"short_factor": [1.0, 1.1, 1.3, 1.6], "long_factor": [1.5, 2.0, 3.0, 4.0]}
    return (
        LLAMA
        | {"original_max_position_embeddings": original, "max_position_embeddings": 64}
        | rope("longrope", **factors)
    )


FAMILIES: dict[str, dict[str, tuple[str, dict, tuple[str, ...]]]] = {  # file → variant → model_type, fields, heads
    "bert": {
        "bert": ("bert", SMALL, ENCODERS),
        "bert-untied": ("bert", SMALL | {"tie_word_embeddings": False, "hidden_act": "relu"}, ("masked_lm",)),
    },
    "roberta": {
        "roberta": ("roberta", ROBERTA, ENCODERS),
        "xlm-roberta": ("xlm-roberta", ROBERTA, ENCODERS),
    },
    "distilbert": {
        "distilbert": (
            "distilbert",
            {
                "vocab_size": VOCABULARY,
                "dim": 32,
                "n_layers": 2,
                "n_heads": 4,
                "hidden_dim": 40,
                "max_position_embeddings": 32,
            },
            ENCODERS,
        )
    },
    "electra": {"electra": ("electra", SMALL | {"embedding_size": 24}, ENCODERS)},
    "mpnet": {
        "mpnet": (
            "mpnet",
            SMALL | {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
            ENCODERS,
        )
    },
    "modernbert": {
        "modernbert": (
            "modernbert",
            SMALL
            | {
                "num_hidden_layers": 4,
                "global_attn_every_n_layers": 3,
                "local_attention": 4,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "cls_token_id": 1,
                "eos_token_id": 2,
                "sep_token_id": 2,
            },
            ENCODERS,
        ),
        "modernbert-mean": (
            "modernbert",
            SMALL
            | {
                "local_attention": 2,
                "classifier_pooling": "mean",
                "classifier_bias": True,
                "norm_bias": True,
                "attention_bias": True,
                "mlp_bias": True,
                "decoder_bias": False,
                "pad_token_id": 0,
                "bos_token_id": 1,
                "cls_token_id": 1,
                "eos_token_id": 2,
                "sep_token_id": 2,
            },
            ("masked_lm", "sequence_classification"),
        ),
    },
    "gpt2": {
        "gpt2": (
            "gpt2",
            {
                "vocab_size": VOCABULARY,
                "n_embd": 32,
                "n_layer": 2,
                "n_head": 4,
                "n_inner": 40,
                "n_positions": 32,
                "bos_token_id": 2,
                "eos_token_id": 2,
                "pad_token_id": 0,
            },
            DECODERS,
        ),
        "gpt2-scaled": (
            "gpt2",
            {
                "vocab_size": VOCABULARY,
                "n_embd": 32,
                "n_layer": 2,
                "n_head": 4,
                "n_positions": 32,
                "bos_token_id": 2,
                "eos_token_id": 2,
                "scale_attn_by_inverse_layer_idx": True,
                "tie_word_embeddings": False,
                "activation_function": "relu",
            },
            LM,
        ),
    },
    "gpt_neox": {
        "gpt_neox": ("gpt_neox", SMALL | {"pad_token_id": 1} | rope("default", partial_rotary_factor=0.25), DECODERS),
        "gpt_neox-sequential": (
            "gpt_neox",
            SMALL
            | {"use_parallel_residual": False, "attention_bias": False, "tie_word_embeddings": True}
            | rope("default", partial_rotary_factor=0.5),
            LM,
        ),
    },
    "llama": {
        "llama": ("llama", LLAMA, DECODERS),
        "llama-tied": ("llama", LLAMA | {"tie_word_embeddings": True, "head_dim": 16}, LM),
        "llama-bias": ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}, LM),
        "llama-llama3": (
            "llama",
            LLAMA
            | rope(
                "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16
            ),
            BOTH,
        ),
        "llama-yarn": ("llama", LLAMA | rope("yarn", factor=4.0, original_max_position_embeddings=8), BOTH),
        "llama-linear": ("llama", LLAMA | rope("linear", factor=2.5), BOTH),
        "llama-dynamic": ("llama", LLAMA | {"max_position_embeddings": 8} | rope("dynamic", factor=2.0), BARE),
    },
    "mistral": {"mistral": ("mistral", LLAMA | {"sliding_window": 4, "head_dim": 16}, DECODERS)},
    "qwen2": {
        "qwen2": ("qwen2", LLAMA, DECODERS),
        "qwen2-sliding": (
            "qwen2",
            LLAMA | {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
            LM,
        ),
    },
    "qwen3": {"qwen3": ("qwen3", LLAMA | {"head_dim": 16}, DECODERS)},
    "gemma3": {
        "gemma3": (
            "gemma3_text",
            LLAMA
            | {
                "num_hidden_layers": 3,
                "head_dim": 16,
                "sliding_window": 4,
                "query_pre_attn_scalar": 20,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
                "bos_token_id": 2,
                "eos_token_id": 1,
            },
            DECODERS,
        ),
        "gemma3-linear": (
            "gemma3_text",
            LLAMA
            | {
                "head_dim": 8,
                "sliding_window": 3,
                "query_pre_attn_scalar": 8,
                "layer_types": ["sliding_attention", "full_attention"],
                "final_logit_softcapping": 30.0,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
                },
            },
            LM,
        ),
    },
    "phi3": {
        "phi3": ("phi3", LLAMA, DECODERS),
        "phi3-partial": ("phi3", LLAMA | {"sliding_window": 5} | rope("default", partial_rotary_factor=0.5), BOTH),
        "phi3-longrope": ("phi3", longrope(original=16), BARE),  # all texts shorter, then all longer
        "phi3-longrope-beyond": ("phi3", longrope(original=4), BARE),
    },
    "t5": {
        "t5": ("t5", T5, SEQ2SEQ),
        "t5-encoder": ("t5", T5, ("encoder",)),
        "t5-uneven": ("t5", T5 | {"num_decoder_layers": 3}, BARE),
        "flan-t5": (
            "t5",
            T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            ("base", "encoder", "seq2seq_lm"),
        ),
    },
    "bart": {
        "bart": ("bart", BART, SEQ2SEQ),
        "bart-scaled": (
            "bart",
            BART | {"scale_embedding": True, "activation_function": "relu"},
            ("base", "seq2seq_lm"),
        ),
    },
    "marian": {
        "marian": ("marian", MARIAN, ("base", "seq2seq_lm")),
        "marian-two-vocabularies": (
            "marian",
            MARIAN
            | {"share_encoder_decoder_embeddings": False, "tie_word_embeddings": False, "decoder_vocab_size": 60}
            | {"pad_token_id": 59, "decoder_start_token_id": 59},
            ("seq2seq_lm",),
        ),
    },
}


# ---- one checkpoint


def record(variant: str, model_type: str, fields: dict, head: str) -> Recording | None:
    """The recording of a variant's head, or None where Transformers has no such class."""
    blank = blank_recording(f"{variant}.{head}", model_type, fields, head)
    if blank is None:
        return None
    if head not in GENERATING:
        return with_outputs(replace(blank, seed=0))
    for seed in range(SEEDS):
        found = with_tokens(replace(blank, seed=seed))
        if found is not None:
            return with_outputs(found)
    raise SystemExit(f"{blank.name}: no seed below {SEEDS} gives clear tokens")


def blank_recording(name: str, model_type: str, fields: dict, head: str) -> Recording | None:
    """Config, tensor names and shapes as save_pretrained writes them, and inputs."""
    labels = {"num_labels": 3} if head.endswith("classification") else {}
    config = AutoConfig.for_model(model_type, **fields, **labels)
    try:
        model = transformers.T5EncoderModel(config) if head == "encoder" else auto_class(head).from_config(config)
    except ValueError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        written = read_folder(Path(folder))
    blank = Recording(name=name, seed=0, arrays=inputs(model, head), **written)
    return as_flan_t5(blank) if name.startswith("flan") else blank


def as_flan_t5(recording: Recording) -> Recording:
    """With a head of its own, as the checkpoints on the hub have: Transformers 5 would save it tied, and say so."""
    left_out = ("tie_word_embeddings", "scale_decoder_outputs")
    config = {key: value for key, value in recording.config.items() if key not in left_out}
    shapes = dict(recording.shapes)
    if recording.head == "seq2seq_lm":
        shapes["lm_head.weight"] = shapes["shared.weight"]
    return replace(recording, config=config | {"tie_word_embeddings": False}, shapes=shapes)


def auto_class(head: str) -> type:
    return getattr(transformers, HEADS[head])


def read_folder(folder: Path) -> dict:
    from safetensors import safe_open

    generation = folder / "generation_config.json"
    with safe_open(folder / "model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    config = json.loads((folder / "config.json").read_text())
    is_marian = config["model_type"] == "marian"
    return {
        "config": config,
        "generation_config": json.loads(generation.read_text()) if generation.exists() else None,
        "shapes": shapes,
        "sinusoids": tuple(name for name in shapes if is_marian and name.endswith("embed_positions.weight")),
    }


def inputs(model: torch.nn.Module, head: str) -> dict[str, np.ndarray]:
    """Two texts of nine tokens and one of six, without pad tokens, each ending in the end token where there is one."""
    random = np.random.RandomState(11)
    config = model.config
    top = min(config.vocab_size, getattr(config, "decoder_vocab_size", None) or VOCABULARY) - 1
    long, short = random.randint(5, top, (2, 9)), random.randint(5, top, (1, 6))
    if config.is_encoder_decoder or head not in ("base", "causal_lm"):
        long[:, -1] = short[:, -1] = end_token(config)
    found = {"input_ids": long, "short_ids": short}
    if getattr(config, "type_vocab_size", 0) == 2:
        found["token_type_ids"] = (np.arange(9) >= np.array([[5], [3]])).astype(np.int64)
    if config.is_encoder_decoder and head in ("base", "seq2seq_lm"):
        first = config.decoder_start_token_id
        found["decoder_input_ids"] = start(random.randint(5, top, (2, 7)), first)
        found["short_decoder_input_ids"] = start(random.randint(5, top, (1, 4)), first)
    if head in GENERATING:
        found |= prompts(random.randint(5, top, (3, 6)), config)
    return {key: value.astype(np.int16) for key, value in found.items()}


def end_token(config: object) -> int:
    end = getattr(config, "eos_token_id", None)
    return (end[0] if isinstance(end, list) else end) or (0 if end == 0 else 2)


def start(ids: np.ndarray, first: int) -> np.ndarray:
    ids[:, 0] = first
    return ids


def prompts(ids: np.ndarray, config: object) -> dict[str, np.ndarray]:
    """Three prompts of 6, 4 and 5 tokens: padded on the right for an encoder, on the left for a decoder alone."""
    lengths = np.array([6, 4, 5])[:, None]
    columns = np.arange(6)
    mask = columns < lengths if config.is_encoder_decoder else columns >= 6 - lengths
    ids[~mask] = config.pad_token_id or 0
    return {"prompt_ids": ids, "prompt_mask": mask.astype(np.int64)}


# ---- what Transformers makes of it


def open_model(
    recording: Recording, dtype: torch.dtype = torch.float64, weights: dict | None = None
) -> torch.nn.Module:
    kind = transformers.T5EncoderModel if recording.head == "encoder" else auto_class(recording.head)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), recording, weights)
        model, report = kind.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
        )
    missing = [name for name in report["missing_keys"] if "embed_positions" not in name]
    assert not missing, (recording.name, missing)
    assert not report["unexpected_keys"], (recording.name, report["unexpected_keys"])
    return model.eval().to(dtype)


def run(model: torch.nn.Module, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tensors_in = {key: torch.tensor(value.astype(np.int64)) for key, value in given.items()}
    with torch.no_grad():
        output = model(**tensors_in, output_hidden_states=True, output_attentions=True)
    return {key: to_numpy(output[key]) for key in CAPTURED if is_there(output.get(key))}


def is_there(value: torch.Tensor | tuple[torch.Tensor, ...] | None) -> bool:
    """An encoder's cross attentions are an empty tuple."""
    return value is not None and len(value) > 0


def to_numpy(value: torch.Tensor | tuple[torch.Tensor, ...]) -> np.ndarray:
    stacked = torch.stack(value) if isinstance(value, tuple) else value
    return stacked.to(torch.float32).numpy()


def with_outputs(recording: Recording) -> Recording:
    """The recording with what its model returns; a head records its logits alone."""
    model = open_model(recording)
    arrays = dict(recording.arrays)
    for of, given in (("whole", recording.whole()), ("short", recording.short())):
        outputs = run(model, given)
        if not recording.has_layers:
            outputs = {key: value for key, value in outputs.items() if key.endswith("logits")}
        arrays |= {f"{of}.{key}": value for key, value in outputs.items()}
    return replace(recording, arrays=arrays)


def generate(model: torch.nn.Module, recording: Recording, **options: object):
    ids, mask = (torch.tensor(recording.arrays[key].astype(np.int64)) for key in ("prompt_ids", "prompt_mask"))
    with torch.no_grad():
        return model.generate(ids, attention_mask=mask, max_new_tokens=NEW_TOKENS, do_sample=False, **options)


def with_tokens(recording: Recording) -> Recording | None:
    """The recording with greedy and beam tokens and an end token that stops some, or None where a choice is close.

    In float32: in float64 Transformers' masks overflow to infinity, and a padded column makes all of its text NaN.
    """
    model = open_model(recording, torch.float32)
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    end = early_end(generate(model, recording, pad_token_id=0)[:, -NEW_TOKENS:].numpy())
    if end is None:
        return None
    recording = with_end(recording, end)
    model = open_model(recording, torch.float32)
    greedy = generate(model, recording, output_logits=True, return_dict_in_generate=True)
    if margin(greedy, end) < MARGIN:
        return None
    beam = generate(model, recording, num_beams=3)
    if not torch.equal(beam, generate(disturbed(recording), recording, num_beams=3)):
        return None
    tokens = {"greedy": greedy.sequences, "beam": beam}
    arrays = {key: value.numpy().astype(np.int16) for key, value in tokens.items()}
    return replace(recording, arrays=recording.arrays | arrays)


def early_end(free: np.ndarray) -> int | None:
    """A token that ends the second text after three to six tokens, and not all others as early; texts must vary."""
    if len(np.unique(free)) < 7 or len(np.unique(free[1])) < 3:
        return None
    for step in range(3, 7):
        token = int(free[1, step])
        if token > 2 and token not in free[1, :step] and token not in free[0]:
            return token
    return None


def with_end(recording: Recording, end: int) -> Recording:
    """The recording whose config stops at this token too: beside the family's own in decoders, alone elsewhere."""
    config, generation = dict(recording.config), dict(recording.generation_config)
    ends = [config["eos_token_id"], end] if recording.head == "causal_lm" else end
    config["eos_token_id"] = generation["eos_token_id"] = ends
    for place in (config, generation):
        if place.get("forced_eos_token_id") is not None:
            place["forced_eos_token_id"] = end
    return replace(recording, config=config, generation_config=generation)


def margin(greedy: object, end: int) -> float:
    """The least distance between the best and the second-best logit over all choices made."""
    best = torch.stack(greedy.logits).topk(2).values  # steps, texts, 2
    chosen = greedy.sequences[:, -len(greedy.logits) :]
    running = (chosen == end).cumsum(1).T - (chosen == end).int().T == 0
    return float((best[..., 0] - best[..., 1])[running].min())


def disturbed(recording: Recording) -> torch.nn.Module:
    """The model with weights that are off by 1e-4 of their size."""
    random = np.random.RandomState(5)
    weights = tensors(recording.shapes, recording.seed, recording.sinusoids)
    off = {key: value * (1 + 1e-4 * random.standard_normal(value.shape)) for key, value in weights.items()}
    return open_model(recording, torch.float32, {key: value.astype(np.float32) for key, value in off.items()})


# ---- the check


def check(recording: Recording) -> list[str]:
    """What differs when the recording's checkpoint is opened again, in float32."""
    model = open_model(recording, torch.float32)
    faults = []
    for of, given in (("whole", recording.whole()), ("short", recording.short())):
        got = run(model, given)
        faults += [f"{of} {key}" for key, want in recording.outputs(of).items() if not off(got[key], want) <= CLOSE]
    if rope_type(recording) != "dynamic":  # whose frequencies follow the longest text of a batch
        faults += padding_faults(model, recording)
    for tokens, options in (("greedy", {}), ("beam", {"num_beams": 3})):
        if tokens in recording.arrays:
            found = generate(model, recording, **options).numpy()
            faults += [] if np.array_equal(found, recording.arrays[tokens]) else [tokens]
    return faults


def rope_type(recording: Recording) -> str | None:
    return recording.config.get("rope_parameters", {}).get("rope_type")


def padding_faults(model: torch.nn.Module, recording: Recording) -> list[str]:
    """Whether the short text, padded on the right, gives what it gives alone."""
    given, mask = recording.padded()
    key, want = next(iter(recording.outputs("short").items()))
    got = run(model, given)[key][1:]
    is_pooled = key == "logits" and want.ndim == 2
    return [] if off(got if is_pooled else got[:, mask[1].astype(bool)], want) <= CLOSE else [f"padded {key}"]


def off(got: np.ndarray, want: np.ndarray) -> float:
    """The largest error relative to the values' spread."""
    return float(np.abs(got - want).max() / max(want.std(), 1e-3)) if got.shape == want.shape else np.inf


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if sys.argv[1:] == ["--check"]:
        faults = [f"{recording.name}: {fault} differs" for recording in recordings() for fault in check(recording)]
        raise SystemExit("\n".join(faults) or 0)
    FOLDER.mkdir(exist_ok=True)
    for family in sys.argv[1:] or FAMILIES:
        found = [
            record(variant, model_type, fields, head)
            for variant, (model_type, fields, heads) in FAMILIES[family].items()
            for head in heads
        ]
        save(FOLDER / f"{family}.npz", [recording for recording in found if recording is not None])


if __name__ == "__main__":
    main()
