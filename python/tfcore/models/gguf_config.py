"""GGUF's metadata as the fields of a `config.json`: one function for what architectures share, one for each difference.

Numbers that were rounded to float32 on their way into the file are given as the shortest decimals that round to them:
1e-05 and not 9.999999747378752e-06.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .config import Config
from .gguf import GgufFile
from .gguf_names import ARCHITECTURES

Fields = dict[str, Any]

_GEMMA_PERIOD = 6  # of Gemma 3's layers every sixth sees everything, the others a window
_GEMMA_LOCAL_BASE = 10000.0
_GEMMA_27B_LAYERS = 62  # scales scores by the width of a head as if the model's width were cut evenly
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_IDS = {"bos": "bos", "eos": "eos", "pad": "padding"}
_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>")
# What changes the numbers and is in no table above: a file that has it is another model than we would run.
_REFUSED = (
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.scale",
    "attn_logit_softcapping",
    "embedding_scale",
    "expert_count",
    "logit_scale",
    "residual_scale",
)


class _Keys:
    """The metadata of one file, with short names for the keys that begin with its architecture."""

    def __init__(self, file: GgufFile) -> None:
        self.file, self.all = file, Config(file.metadata, file.path)
        self.architecture = self.all.text("general.architecture")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"{file.path}: key 'general.architecture' is {self.architecture!r}, expected one of "
                f"{', '.join(ARCHITECTURES)}"
            )

    def __contains__(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.all

    def on(self, key: str) -> bool:
        """Whether a key is there and not 0, which switches off what it is about."""
        return bool(self.all.get(f"{self.architecture}.{key}"))

    def integer(self, key: str, default: int | None = None) -> int:
        name = f"{self.architecture}.{key}"
        return self.all.positive_int(name) if default is None else self.all.positive_int(name, default)

    def number(self, key: str, default: float | None = None) -> float:
        name = f"{self.architecture}.{key}"
        return _decimal(self.all.positive_number(name) if default is None else self.all.positive_number(name, default))

    def layers(self) -> int:
        count = self.integer("block_count")
        if count > len(self.file.tensors):  # before anything is made for each of them
            raise self.refuse("block_count", f"at most {len(self.file.tensors)}, as there are tensors")
        return count

    def text(self, key: str, default: str) -> str:
        return self.all.text(f"{self.architecture}.{key}", default)

    def refuse(self, key: str, wanted: str) -> ValueError:
        name = f"{self.architecture}.{key}"
        return ValueError(f"{self.file.path}: key {name!r} is {self.all.get(name)!r}, expected {wanted}")


def architecture_of(file: GgufFile) -> str:
    """The file's architecture, one that is known."""
    return _Keys(file).architecture


def read_config(file: GgufFile) -> Fields:
    """The fields of a `config.json` that say what the file's metadata says.

    Raises
    ------
    ValueError
        A key is missing, of the wrong type or out of range, or states what is not implemented; the message names it.
        The architecture is unknown; the message lists those that are known.
    """
    keys = _Keys(file)
    for key in _REFUSED:
        if keys.on(key):
            raise keys.refuse(key, "0: nothing else is implemented")
    return {**_FIELDS[keys.architecture](keys), **_shared(keys)}


def _shared(keys: _Keys) -> Fields:
    tensors = keys.file.tensors
    vocabulary = _vocabulary_size(keys.file)
    if keys.integer("vocab_size", vocabulary) != vocabulary:
        raise keys.refuse("vocab_size", f"{vocabulary}, the rows of tensor 'token_embd.weight'")
    ids = {f"{ours}_token_id": _token_id(keys, theirs, vocabulary) for ours, theirs in _IDS.items()}
    turn = _turn_end(keys, vocabulary)
    if turn is not None and ids["eos_token_id"] not in (None, turn):  # a chat's answer ends there
        ids["eos_token_id"] = [ids["eos_token_id"], turn]
    reading = {} if keys.all.get(f"{keys.architecture}.attention.causal", True) else {"is_causal": False}
    return {"vocab_size": vocabulary, "tie_word_embeddings": "output.weight" not in tensors, **ids, **reading}


def _vocabulary_size(file: GgufFile) -> int:
    if "token_embd.weight" not in file.tensors:
        raise ValueError(f"{file.path}: tensor 'token_embd.weight' is missing")
    shape = file.tensors["token_embd.weight"].shape
    if len(shape) != 2 or shape[0] == 0:
        raise ValueError(f"{file.path}: tensor 'token_embd.weight' has shape {shape}, expected a row for each token")
    return shape[0]


def _token_id(keys: _Keys, name: str, vocabulary: int) -> Any:
    key = f"tokenizer.ggml.{name}_token_id"
    value = keys.all.get(key)
    if value is not None and (type(value) is not int or not 0 <= value < vocabulary):
        raise ValueError(f"{keys.file.path}: key {key!r} is {value!r}, expected an integer from 0 to {vocabulary - 1}")
    return value


def _turn_end(keys: _Keys, vocabulary: int) -> Any:
    """The token that ends an answer in a chat: the one stated, or the one usually taken for it."""
    tokens = keys.all.get("tokenizer.ggml.tokens")
    usual = (tokens.index(token) for token in _TURN_ENDS if isinstance(tokens, list) and token in tokens)
    stated = _token_id(keys, "eot", vocabulary)
    return next(usual, None) if stated is None else stated


# ---- architectures


def _gpt2(keys: _Keys) -> Fields:
    return {
        "model_type": "gpt2",
        "n_positions": keys.integer("context_length"),
        "n_embd": keys.integer("embedding_length"),
        "n_layer": keys.layers(),
        "n_head": keys.integer("attention.head_count"),
        "n_inner": keys.integer("feed_forward_length"),
        "layer_norm_epsilon": keys.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
    }


def _decoder(model_type: str) -> Callable[[_Keys], Fields]:
    """What Llama and its descendants have in common."""

    def fields(keys: _Keys) -> Fields:
        width, heads = keys.integer("embedding_length"), keys.integer("attention.head_count")
        head_dim = keys.integer("attention.key_length", max(width // heads, 1))
        if keys.integer("attention.value_length", head_dim) != head_dim:
            raise keys.refuse("attention.value_length", f"{head_dim}, as 'attention.key_length'")
        return {
            "model_type": model_type,
            "hidden_size": width,
            "intermediate_size": keys.integer("feed_forward_length"),
            "num_hidden_layers": keys.layers(),
            "num_attention_heads": heads,
            "num_key_value_heads": keys.integer("attention.head_count_kv", heads),
            "head_dim": head_dim,
            "max_position_embeddings": keys.integer("context_length"),
            "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
            "hidden_act": "silu",
            **_rope(keys, head_dim),
        }

    return fields


def _llama(keys: _Keys) -> Fields:
    tensors = keys.file.tensors
    fields = _decoder("llama")(keys)
    fields |= {"attention_bias": "blk.0.attn_q.bias" in tensors, "mlp_bias": "blk.0.ffn_up.bias" in tensors}
    if "rope_freqs.weight" in tensors:
        fields["rope_scaling"] = _llama3_scaling(keys, fields)
    if keys.on("attention.sliding_window"):
        fields |= {"model_type": "mistral", "sliding_window": keys.integer("attention.sliding_window")}
    return fields


def _qwen3(keys: _Keys) -> Fields:
    return {**_decoder("qwen3")(keys), "attention_bias": "blk.0.attn_q.bias" in keys.file.tensors}


def _gemma3(keys: _Keys) -> Fields:
    fields = _decoder("gemma3_text")(keys)
    layers, head_dim = fields["num_hidden_layers"], fields["head_dim"]
    del fields["hidden_act"]
    even = layers == _GEMMA_27B_LAYERS
    return {
        **fields,
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": fields["hidden_size"] // fields["num_attention_heads"] if even else head_dim,
        "sliding_window": keys.integer("attention.sliding_window"),
        "sliding_window_pattern": _GEMMA_PERIOD,
        "layer_types": ["sliding_attention" if (i + 1) % _GEMMA_PERIOD else "full_attention" for i in range(layers)],
        "rope_local_base_freq": keys.number("rope.freq_base_swa", _GEMMA_LOCAL_BASE),
        "final_logit_softcapping": keys.number("final_logit_softcapping")
        if keys.on("final_logit_softcapping")
        else None,
        "attn_logit_softcapping": None,
    }


def _phi3(keys: _Keys) -> Fields:
    fields = _decoder("phi3")(keys)
    window = "attention.sliding_window"
    fields["sliding_window"] = keys.integer(window) if keys.on(window) else None
    length = keys.integer("rope.scaling.original_context_length", fields["max_position_embeddings"])
    fields["original_max_position_embeddings"] = length
    factors = {kind: f"rope_factors_{kind}.weight" for kind in ("short", "long")}
    missing = [name for name in factors.values() if name not in keys.file.tensors]
    if len(missing) == 1:
        raise ValueError(f"{keys.file.path}: tensor {missing[0]!r} is missing, the other of its pair is there")
    if not missing:
        rotated = _rotated(fields)
        fields["rope_scaling"] = {"rope_type": "longrope", "type": "longrope"} | {
            f"{kind}_factor": _factors(keys, name, rotated) for kind, name in factors.items()
        }
    return fields


def _factors(keys: _Keys, name: str, rotated: int) -> list[float]:
    shape = keys.file.tensors[name].shape
    if shape != (rotated // 2,):
        raise ValueError(f"{keys.file.path}: tensor {name!r} has shape {shape}, expected ({rotated // 2},)")
    return [_decimal(factor) for factor in keys.file.read(name).tolist()]


_FIELDS: dict[str, Callable[[_Keys], Fields]] = {
    "llama": _llama,
    "qwen2": _decoder("qwen2"),
    "qwen3": _qwen3,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "gpt2": _gpt2,
}

# ---- rotary positions


def _rope(keys: _Keys, head_dim: int) -> Fields:
    fields: Fields = {"rope_theta": keys.number("rope.freq_base", 10000.0), "rope_scaling": _scaling(keys)}
    rotated = keys.integer("rope.dimension_count", head_dim)
    if rotated > head_dim or rotated % 2:
        raise keys.refuse("rope.dimension_count", f"an even number up to {head_dim}, the width of a head")
    if rotated != head_dim:
        fields["partial_rotary_factor"] = rotated / head_dim
    return fields


def _rotated(fields: Fields) -> int:
    """How many numbers of a head rotate."""
    head_dim, part = int(fields["head_dim"]), float(fields.get("partial_rotary_factor", 1))
    return round(head_dim * part)


def _scaling(keys: _Keys) -> Fields | None:
    kind = keys.text("rope.scaling.type", "none")
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if kind == "yarn":
        return _yarn(keys)
    if kind == "none" and "rope.scale_linear" in keys:  # as it was said before there were types
        return {"rope_type": "linear", "factor": keys.number("rope.scale_linear")}
    if kind == "none" or (kind == "longrope" and keys.architecture == "phi3"):  # whose factors are tensors
        return None
    raise keys.refuse("rope.scaling.type", "one of none, linear, yarn, and longrope for phi3")


def _yarn(keys: _Keys) -> Fields:
    factor = keys.number("rope.scaling.factor")
    fields: Fields = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": keys.integer("rope.scaling.original_context_length"),
    }
    for ours, theirs in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
        if f"rope.scaling.{theirs}" in keys:
            fields[ours] = keys.number(f"rope.scaling.{theirs}")
    if "rope.scaling.attn_factor" in keys:  # on top of the usual one, where a config.json states the product
        fields["attention_factor"] = keys.number("rope.scaling.attn_factor") * (0.1 * math.log(factor) + 1)
    return fields


def _llama3_scaling(keys: _Keys, fields: Fields) -> Fields:
    """Llama 3's scaling, which a converter turns into a tensor of divisors: found again if it is that of 3.1 to 3.3."""
    stored = keys.file.read("rope_freqs.weight").reshape(-1)
    rotated = _rotated(fields)
    factor = _decimal(float(stored.max(initial=0)))
    if stored.shape != (rotated // 2,) or not np.isfinite(factor) or factor < 1:
        raise ValueError(
            f"{keys.file.path}: tensor 'rope_freqs.weight' has shape {stored.shape} and a maximum of {factor}, "
            f"expected ({rotated // 2},) and a factor from 1 on"
        )
    wavelengths = 2 * math.pi * fields["rope_theta"] ** (np.arange(0, rotated, 2) / rotated)
    low, high, length = _LLAMA3.values()
    smooth = np.clip((length / wavelengths - low) / (high - low), 0, 1)
    if not np.allclose(stored, 1 / ((1 - smooth) / factor + smooth), rtol=1e-4, atol=0):
        raise ValueError(
            f"{keys.file.path}: tensor 'rope_freqs.weight' holds divisors of frequencies other than Llama 3's for a "
            f"factor of {factor}: such scaling is not implemented"
        )
    return {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def _decimal(value: float) -> float:
    """The shortest decimal that rounds to the same float32; what is none stays."""
    with np.errstate(over="ignore"):
        single = np.float32(value)
    return float(str(single)) if float(single) == value else value
