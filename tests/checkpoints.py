"""Small checkpoints made on the spot, the same in every run: honest ones, and the pieces of lying ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tfcore.carried import minilm_folder

_DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "i8": "I64", "u1": "U8"}

CONFIG = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz",
    *"!?.,",
    "##s",
    "##t",
    "##u",
    "the",
    "two",
]


def safetensors_bytes(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of any header, as an object or as raw bytes, with its own length or a claimed one."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def write_safetensors(path: Path, tensors: dict[str, np.ndarray], pad_header: int = 0) -> None:
    """An honest file. Arrays of uint16 are stored as BF16."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        dtype = "BF16" if tensor.dtype == np.uint16 else _DTYPES[tensor.dtype.str[1:]]
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    raw_header = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(safetensors_bytes(raw_header + b" " * (pad_header - len(raw_header)), data))


def bert_tensors(
    config: dict = CONFIG, *, prefix: str = "", pooler: bool = True, seed: int = 0
) -> dict[str, np.ndarray]:
    """Every tensor of a BERT of `config`; the numbers depend on the seed alone (this generator's stream is frozen)."""
    random = np.random.RandomState(seed)
    C, F = config["hidden_size"], config["intermediate_size"]  # noqa: N806
    tensors: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int, base: float = 0.0, spread: float = 0.2) -> None:
        tensors[prefix + name] = (base + spread * random.standard_normal(shape)).astype(np.float32)

    def add_linear(name: str, out: int, into: int) -> None:
        add(f"{name}.weight", out, into)
        add(f"{name}.bias", out)

    def add_norm(name: str) -> None:
        add(f"{name}.weight", C, base=1.0, spread=0.1)
        add(f"{name}.bias", C, spread=0.1)

    add("embeddings.word_embeddings.weight", config["vocab_size"], C, spread=1.0)
    add("embeddings.position_embeddings.weight", config["max_position_embeddings"], C, spread=0.5)
    add("embeddings.token_type_embeddings.weight", config["type_vocab_size"], C, spread=0.5)
    add_norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            add_linear(f"{layer}.attention.self.{part}", C, C)
        add_linear(f"{layer}.attention.output.dense", C, C)
        add_norm(f"{layer}.attention.output.LayerNorm")
        add_linear(f"{layer}.intermediate.dense", F, C)
        add_linear(f"{layer}.output.dense", C, F)
        add_norm(f"{layer}.output.LayerNorm")
    if pooler:
        add_linear("pooler.dense", C, C)
    return tensors


def old_masked_lm_tensors(config: dict = CONFIG) -> dict[str, np.ndarray]:
    """A masked language model as old versions saved it: prefixed, gamma and beta, a buffer, its head, no pooler."""
    tensors = bert_tensors(config, prefix="bert.", pooler=False, seed=1)
    renames = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for new, old in renames.items():
        tensors = {name.replace(new, old): tensor for name, tensor in tensors.items()}
    C, V = config["hidden_size"], config["vocab_size"]  # noqa: N806
    return tensors | {
        "bert.embeddings.position_ids": np.arange(config["max_position_embeddings"])[None],
        "cls.predictions.bias": np.zeros(V, np.float32),
        "cls.predictions.transform.dense.weight": np.eye(C, dtype=np.float32),
        "cls.predictions.transform.dense.bias": np.zeros(C, np.float32),
        "cls.predictions.transform.LayerNorm.gamma": np.ones(C, np.float32),
        "cls.predictions.transform.LayerNorm.beta": np.zeros(C, np.float32),
        "cls.seq_relationship.weight": np.zeros((2, C), np.float32),
        "cls.seq_relationship.bias": np.zeros(2, np.float32),
    }


VARIANTS = {  # name → config fields that differ, and tensors
    "plain": ({}, bert_tensors),
    "old_masked_lm": ({}, old_masked_lm_tensors),
    "gelu_new": ({"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}, bert_tensors),
    "relu": ({"hidden_act": "relu"}, bert_tensors),
}


def write_variant(folder: Path, variant: str = "plain") -> Path:
    fields, tensors = VARIANTS[variant]
    return write_bert(folder, CONFIG | fields, tensors(CONFIG | fields))


def write_bert(folder: Path, config: dict | None = None, tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A checkpoint folder with `config.json`, `model.safetensors` and `vocab.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG if config is None else config
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    write_safetensors(folder / "model.safetensors", bert_tensors() if tensors is None else tensors)
    return folder


minilm = minilm_folder  # real weights: the tests fail without them


def batch() -> dict[str, np.ndarray]:
    """Four texts in nine columns: whole, padded on the right, on the left, and with holes."""
    random = np.random.RandomState(7)
    mask = np.array(
        [
            [1, 1, 1, 1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 0, 0, 0, 0],
            [0, 0, 1, 1, 1, 1, 1, 1, 1],
            [1, 1, 0, 1, 1, 0, 1, 0, 1],
        ]
    )
    return {
        "input_ids": random.randint(5, 40, mask.shape),
        "attention_mask": mask,
        "token_type_ids": random.randint(0, 2, mask.shape),
    }
