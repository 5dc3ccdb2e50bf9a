"""GGUF's tensors in Hugging Face's words: names as data, and what a converter did to the numbers undone.

A GGUF file of any of these architectures was converted from a Hugging Face checkpoint. Here is the way back, so that a
family's table of tensor names serves both kinds of files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .checkpoint import StoredColumns, StoredRows

# ---- what a converter did to a tensor


class Change:
    """Nothing was done: the numbers and their shape are those of the checkpoint."""

    heads = ""  # the config field that says how many heads `undo` has to know of

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def undo(self, values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
        return values

    def undo_stored(self, found: StoredRows, heads: int) -> StoredRows | StoredColumns | None:
        """The same of rows as the file has them; None where something was done to their numbers."""
        return found._replace(rows=self.undo(found.rows, heads))


class Transposed(Change):
    """GPT-2's checkpoints hold their matrices as (in, out), GGUF as (out, in)."""

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[::-1]

    def undo(self, values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
        return np.ascontiguousarray(values.T)

    def undo_stored(self, found: StoredRows, heads: int) -> StoredColumns:
        return StoredColumns(*found)


class OneAdded(Change):
    """Gemma's norms multiply by 1 + weight; GGUF stores that sum."""

    def undo(self, values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
        return np.asarray(values - np.float32(1))

    def undo_stored(self, found: StoredRows, heads: int) -> None:
        return None


class Interleaved(Change):
    """Row j of a head's lower half and row j of its upper one, which rotate together, stand beside each other."""

    def __init__(self, heads: str) -> None:
        self.heads = heads

    def undo(self, values: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
        pairs = values.reshape(heads, values.shape[0] // (2 * heads), 2, *values.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


_SAME, _TRANSPOSED, _ONE_ADDED = Change(), Transposed(), OneAdded()
_INTERLEAVED = {"attn_q": Interleaved("num_attention_heads"), "attn_k": Interleaved("num_key_value_heads")}

# ---- architectures


@dataclass(frozen=True)
class TensorNames:
    """The names of one architecture, without the ".weight" and ".bias" at their ends.

    layers      what the names of a layer's modules begin with in a checkpoint; `{i}` is its number
    outer       modules outside of the layers: GGUF's name → the checkpoint's
    layer       modules of a layer, after "blk.{i}." → after `layers`
    changed     GGUF's name of a module → what was done to its weight; to its bias too where rows were moved
    consumed    tensors that say what a checkpoint's config says, and are no weights
    """

    layers: str
    outer: Mapping[str, str]
    layer: Mapping[str, str]
    changed: Mapping[str, Change] = field(default_factory=dict)
    consumed: tuple[str, ...] = ()

    def translate(self, name: str) -> Stored | None:
        """The checkpoint's name of a tensor and what was done to it; None for one the architecture does not have."""
        match = re.fullmatch(r"(?:blk\.(0|[1-9]\d*)\.)?(\w+)\.(weight|bias)", name)
        if not match:
            return None
        number, module, part = match.groups()
        table = self.outer if number is None else self.layer
        if module not in table:
            return None
        change = self.changed.get(module, _SAME)
        if part == "bias" and not isinstance(change, Interleaved):
            change = _SAME
        begin = "" if number is None else self.layers.format(i=number)
        return Stored(f"{begin}{table[module]}.{part}", name, change)


@dataclass(frozen=True)
class Stored:
    """A checkpoint's tensor in a GGUF file: both names, and what was done to its numbers."""

    name: str
    gguf_name: str
    change: Change


_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
_GATED = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_PRE_NORM = {**_ATTENTION, "ffn_norm": "post_attention_layernorm", **_GATED}
_GEMMA_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    **_HEAD_NORMS,
}


def _decoder(layer: Mapping[str, str], changed: Mapping[str, Change], *consumed: str) -> TensorNames:
    return TensorNames("model.layers.{i}.", _OUTER, layer, changed, consumed)


ARCHITECTURES: Mapping[str, TensorNames] = {
    "llama": _decoder(_PRE_NORM, _INTERLEAVED, "rope_freqs.weight"),
    "qwen2": _decoder(_PRE_NORM, {}),
    "qwen3": _decoder({**_PRE_NORM, **_HEAD_NORMS}, {}),
    "gemma3": _decoder(
        {**_ATTENTION, **_GEMMA_NORMS, **_GATED}, dict.fromkeys((*_GEMMA_NORMS, "output_norm"), _ONE_ADDED)
    ),
    "phi3": _decoder(
        {
            "attn_norm": "input_layernorm",
            "attn_qkv": "self_attn.qkv_proj",
            "attn_output": "self_attn.o_proj",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.gate_up_proj",
            "ffn_down": "mlp.down_proj",
        },
        {},
        "rope_factors_long.weight",
        "rope_factors_short.weight",
    ),
    "gpt2": TensorNames(
        "transformer.h.{i}.",
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), _TRANSPOSED),
    ),
}
