"""Small GGUF files made on the spot, by a writer of their own: honest ones, and the pieces of lying ones."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from tfcore.carried import smollm2_file

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "BF16": 30}
TYPES |= {"Q4_K": 12, "Q5_K": 13, "Q6_K": 14}
BLOCKS = {  # numbers and bytes of a block
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q8_0": (32, 34),
    "Q4_0": (32, 18),
    "Q4_1": (32, 20),
    "Q5_0": (32, 22),
    "Q5_1": (32, 24),
    "Q4_K": (256, 144),
    "Q5_K": (256, 176),
    "Q6_K": (256, 210),
}
ALIGNMENT = 32
smollm2 = smollm2_file  # real weights: the tests fail without them


# ---- pieces


def start(tensors: int, keys: int, *, version: int = 3, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys)


def text(content: str | bytes, *, length: int | None = None) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(raw) if length is None else length) + raw


def key(name: str | bytes, kind: int, value: bytes) -> bytes:
    """A key and its value, as a type's number and bytes."""
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def tensor(name: str | bytes, sizes: list[int], kind: int, offset: int) -> bytes:
    """A tensor's entry; `sizes` in the file's order, the adjacent dimension first."""
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def padded(data: bytes, alignment: int = ALIGNMENT) -> bytes:
    return data + bytes(-len(data) % alignment)


# ---- whole files


def typed(value: Any) -> tuple[int, bytes]:
    """The type's number and the bytes of a value: uint32, int32, float32, bool, string or an array of one of these."""
    if isinstance(value, bool):
        return 7, bytes([value])
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        return 8, text(value)
    kinds = {typed(item)[0] for item in value}
    assert len(kinds) <= 1, "an array is of one type"
    return 9, array(*(kinds or {4}), len(value), b"".join(typed(item)[1] for item in value))


def stored(values: Any) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes: of an array in float32, float16 or (as uint16) bfloat16, or given as they are."""
    if isinstance(values, tuple):
        return values
    kind = {"float32": "F32", "float16": "F16", "uint16": "BF16"}[values.dtype.name]
    return kind, values.shape, values.tobytes()


def gguf_bytes(metadata: dict[str, Any], tensors: dict[str, Any], *, version: int = 3) -> bytes:
    alignment = metadata.get("general.alignment", ALIGNMENT)
    head = start(len(tensors), len(metadata), version=version)
    head += b"".join(key(name, *typed(value)) for name, value in metadata.items())
    data = b""
    for name, values in tensors.items():
        kind, shape, raw = stored(values)
        head += tensor(name, list(shape[::-1]), TYPES[kind], len(data))
        data += padded(raw, alignment)
    return padded(head, alignment) + data


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, Any], *, version: int = 3) -> Path:
    path.write_bytes(gguf_bytes(metadata, tensors, version=version))
    return path


# ---- models

SIZES = {"V": 40, "C": 32, "Q": 48, "K": 24, "D": 12, "F": 64, "P": 16}  # 4 heads and 2 key heads of D
LAYERS, HEADS, KEY_HEADS = 2, 4, 2


def _interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Of each head, rows 0, D/2, 1, D/2 + 1, …: what is done to Llama's queries and keys on their way into a file."""
    size = weight.shape[0] // heads
    order = [h * size + part * size // 2 + j for h in range(heads) for j in range(size // 2) for part in range(2)]
    return np.ascontiguousarray(weight[order])


def _numbers(prefix: str, **extra: Any) -> dict[str, Any]:
    common = {
        "context_length": 128,
        "embedding_length": SIZES["C"],
        "feed_forward_length": SIZES["F"],
        "block_count": LAYERS,
        "attention.head_count": HEADS,
    }
    return {
        "general.architecture": prefix,
        **{f"{prefix}.{name}": value for name, value in {**common, **extra}.items()},
    }


_ROTARY = {
    "attention.head_count_kv": KEY_HEADS,
    "attention.key_length": SIZES["D"],
    "attention.value_length": SIZES["D"],
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 50000.0,
    "rope.dimension_count": SIZES["D"],
}
METADATA = {
    "llama": _numbers("llama", **_ROTARY, vocab_size=SIZES["V"]),
    "qwen2": _numbers("qwen2", **_ROTARY, vocab_size=SIZES["V"]),
    "qwen3": _numbers("qwen3", **_ROTARY),
    "gemma3": _numbers("gemma3", **_ROTARY, **{"attention.sliding_window": 8}),
    "phi3": _numbers("phi3", **_ROTARY, **{"attention.sliding_window": 0}),
    "gpt2": _numbers("gpt2", **{"context_length": SIZES["P"], "attention.layer_norm_epsilon": 1e-5}),
}
METADATA["phi3"]["phi3.rope.scaling.original_context_length"] = 128
# Without heads' widths of their own, which Qwen 2 and Phi-3 do not have in Transformers: D is C / heads.
for _name in ("qwen2", "phi3"):
    for _part in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        METADATA[_name][f"{_name}.{_part}"] = SIZES["C"] // HEADS

_LLAMA = {  # checkpoint's name: GGUF's name, letters of the shape, what a converter does
    "model.embed_tokens.weight": ("token_embd.weight", "VC", ""),
    "model.norm.weight": ("output_norm.weight", "C", ""),
    "lm_head.weight": ("output.weight", "VC", ""),
    "model.layers.{i}.input_layernorm.weight": ("blk.{i}.attn_norm.weight", "C", ""),
    "model.layers.{i}.self_attn.q_proj.weight": ("blk.{i}.attn_q.weight", "QC", "interleave"),
    "model.layers.{i}.self_attn.k_proj.weight": ("blk.{i}.attn_k.weight", "KC", "interleave"),
    "model.layers.{i}.self_attn.v_proj.weight": ("blk.{i}.attn_v.weight", "KC", ""),
    "model.layers.{i}.self_attn.o_proj.weight": ("blk.{i}.attn_output.weight", "CQ", ""),
    "model.layers.{i}.post_attention_layernorm.weight": ("blk.{i}.ffn_norm.weight", "C", ""),
    "model.layers.{i}.mlp.gate_proj.weight": ("blk.{i}.ffn_gate.weight", "FC", ""),
    "model.layers.{i}.mlp.up_proj.weight": ("blk.{i}.ffn_up.weight", "FC", ""),
    "model.layers.{i}.mlp.down_proj.weight": ("blk.{i}.ffn_down.weight", "CF", ""),
}
_PLAIN = {ours: (theirs, shape, "") for ours, (theirs, shape, _) in _LLAMA.items()}
_HEAD_NORMS = {
    "model.layers.{i}.self_attn.q_norm.weight": ("blk.{i}.attn_q_norm.weight", "D", ""),
    "model.layers.{i}.self_attn.k_norm.weight": ("blk.{i}.attn_k_norm.weight", "D", ""),
}
_QWEN2 = {ours: (theirs, shape.replace("Q", "C").replace("K", "k"), "") for ours, (theirs, shape, _) in _LLAMA.items()}
_QWEN2 |= {
    f"model.layers.{{i}}.self_attn.{part}_proj.bias": (f"blk.{{i}}.attn_{part}.bias", shape, "")
    for part, shape in (("q", "C"), ("k", "k"), ("v", "k"))
}
_GEMMA3 = {
    **{ours: row for ours, row in _PLAIN.items() if "norm" not in ours and ours != "lm_head.weight"},
    **{
        ours: (theirs, "D" if "self_attn" in ours else "C", "add one")
        for ours, theirs in {
            "model.norm.weight": "output_norm.weight",
            "model.layers.{i}.input_layernorm.weight": "blk.{i}.attn_norm.weight",
            "model.layers.{i}.post_attention_layernorm.weight": "blk.{i}.post_attention_norm.weight",
            "model.layers.{i}.pre_feedforward_layernorm.weight": "blk.{i}.ffn_norm.weight",
            "model.layers.{i}.post_feedforward_layernorm.weight": "blk.{i}.post_ffw_norm.weight",
            "model.layers.{i}.self_attn.q_norm.weight": "blk.{i}.attn_q_norm.weight",
            "model.layers.{i}.self_attn.k_norm.weight": "blk.{i}.attn_k_norm.weight",
        }.items()
    },
}
_PHI3 = {
    **{ours: row for ours, row in _PLAIN.items() if "self_attn" not in ours and ".mlp." not in ours},
    "model.layers.{i}.self_attn.qkv_proj.weight": ("blk.{i}.attn_qkv.weight", "qC", ""),
    "model.layers.{i}.self_attn.o_proj.weight": ("blk.{i}.attn_output.weight", "CC", ""),
    "model.layers.{i}.mlp.gate_up_proj.weight": ("blk.{i}.ffn_up.weight", "fC", ""),
    "model.layers.{i}.mlp.down_proj.weight": ("blk.{i}.ffn_down.weight", "CF", ""),
}
_GPT2 = {
    "transformer.wte.weight": ("token_embd.weight", "VC", ""),
    "transformer.wpe.weight": ("position_embd.weight", "PC", ""),
    **{f"transformer.ln_f.{part}": (f"output_norm.{part}", "C", "") for part in ("weight", "bias")},
}
for _ours, _theirs, _shape in (
    ("ln_1", "attn_norm", "C"),
    ("attn.c_attn", "attn_qkv", "Ct"),
    ("attn.c_proj", "attn_output", "CC"),
    ("ln_2", "ffn_norm", "C"),
    ("mlp.c_fc", "ffn_up", "CF"),
    ("mlp.c_proj", "ffn_down", "FC"),
):
    _how = "transpose" if len(_shape) == 2 else ""
    _GPT2[f"transformer.h.{{i}}.{_ours}.weight"] = (f"blk.{{i}}.{_theirs}.weight", _shape, _how)
    _GPT2[f"transformer.h.{{i}}.{_ours}.bias"] = (f"blk.{{i}}.{_theirs}.bias", _shape[-1], "")
_TABLES = {"llama": _LLAMA, "qwen2": _QWEN2, "qwen3": {**_PLAIN, **_HEAD_NORMS}, "gemma3": _GEMMA3, "phi3": _PHI3}
_TABLES["gpt2"] = _GPT2
ARCHITECTURES = tuple(_TABLES)

# Where heads have no width of their own: queries are C wide, keys k, and q, f, t are of matrices in one.
_MORE_SIZES = {"k": KEY_HEADS * SIZES["C"] // HEADS, "f": 2 * SIZES["F"], "t": 3 * SIZES["C"]}
_MORE_SIZES["q"] = SIZES["C"] + 2 * _MORE_SIZES["k"]


def model(architecture: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A small model's tensors: those of a checkpoint by its names, and what a converter makes of them by GGUF's."""
    rng = np.random.default_rng(len(architecture))
    checkpoint, converted = {}, {}
    for ours, (theirs, letters, how) in _TABLES[architecture].items():
        for i in range(LAYERS if "{i}" in ours else 1):
            shape = [(SIZES | _MORE_SIZES)[letter] for letter in letters]
            weight = rng.standard_normal(shape).astype(np.float32)
            checkpoint[ours.format(i=i)] = weight
            converted[theirs.format(i=i)] = _convert(weight, how, theirs)
    return checkpoint, converted


def _convert(weight: np.ndarray, how: str, name: str) -> np.ndarray:
    if how == "interleave":
        return _interleave(weight, KEY_HEADS if "attn_k" in name else HEADS)
    if how == "transpose":
        return np.ascontiguousarray(weight.T)
    return weight + np.float32(1) if how == "add one" else weight
