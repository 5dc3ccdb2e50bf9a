"""Layers, weights and inputs drawn from a seed, to be run by tfcore.nn and by torch.nn alike.

What PyTorch makes of the first of them is recorded in golden/nn.npz by golden/make_nn.py; test_nn_torch.py runs more.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from tfcore import nn

RECORDED = 6  # of each kind

# The mask, padding mask and flag of each attention that a layer's call has arguments for.
SOURCE = ("src_mask", "src_key_padding_mask", "src_is_causal")
TARGET = ("tgt_mask", "tgt_key_padding_mask", "tgt_is_causal")
MEMORY = ("memory_mask", "memory_key_padding_mask", "memory_is_causal")
KINDS = {
    "attention": ("attn_mask", "key_padding_mask", "is_causal"),
    "encoder_layer": ("src_mask", "src_key_padding_mask", "is_causal"),
    "encoder": ("mask", "src_key_padding_mask", "is_causal"),
    "decoder_layer": (TARGET, MEMORY),
    "decoder": (TARGET, MEMORY),
    "transformer": (SOURCE, TARGET, MEMORY),
}

# T5's buckets of key minus query, -300 to 300: bidirectional, number of buckets, distance from which one holds all.
BUCKETS = {
    "both sides": (True, 32, 128),
    "causal": (False, 32, 128),
    "both sides, few": (True, 12, 50),
    "causal, few": (False, 7, 20),
}


class Case(NamedTuple):
    """A layer of a kind, the options it is made with, and what it is called with."""

    kind: str
    options: dict[str, Any]
    inputs: list[np.ndarray]
    masks: dict[str, Any]

    @property
    def dtype(self) -> np.dtype:
        return self.inputs[0].dtype


def draw_case(kind: str, number: int) -> Case:
    rng = np.random.default_rng([number, list(KINDS).index(kind)])
    draw = _Draw(rng, np.float64 if number % 2 else np.float32)
    return draw.attention() if kind == "attention" else draw.stack(kind)


class _Draw:
    def __init__(self, rng: np.random.Generator, dtype: type) -> None:
        self.rng, self.dtype = rng, dtype
        self.heads = int(rng.integers(1, 5))
        self.width = self.heads * int(rng.choice([1, 4, 5, 8]))
        self.batched = self.flag(0.85)
        self.batch = int(rng.integers(1, 4)) if self.batched else 1
        self.batch_first = self.flag(0.6)

    def flag(self, chance: float = 0.5) -> bool:
        return bool(self.rng.random() < chance)

    def length(self, least: int = 1) -> int:
        return int(self.rng.integers(least, 12))

    def attention(self) -> Case:
        alone = self.flag(0.4)
        queries = self.length()
        keys = queries if alone else self.length()
        separate = not alone and self.flag()
        kdim, vdim = (self.length(3), self.length(3)) if separate else (self.width, self.width)
        options = {
            "embed_dim": self.width, "num_heads": self.heads, "bias": self.flag(0.8), "add_bias_kv": self.flag(0.2),
            "add_zero_attn": self.flag(0.2), "kdim": kdim, "vdim": vdim, "batch_first": self.batch_first,
        }  # fmt: skip
        query = self.sequences(queries, self.width)
        inputs = [query] * 3 if alone else [query, self.sequences(keys, kdim), self.sequences(keys, vdim)]
        masks = self.masks(KINDS["attention"], queries, keys)
        if options["add_bias_kv"] or options["add_zero_attn"]:
            masks.pop("is_causal", None)  # without weights, PyTorch then hides the added keys too
        return Case("attention", options, inputs, masks | {"average_attn_weights": self.flag()})

    def stack(self, kind: str) -> Case:
        options = {
            "d_model": self.width, "nhead": self.heads, "dim_feedforward": self.length(3), "norm_first": self.flag(),
            "activation": str(self.rng.choice(["relu", "gelu"])), "bias": self.flag(0.8),
            "layer_norm_eps": float(self.rng.choice([1e-5, 1e-3])), "batch_first": self.batch_first,
        }  # fmt: skip
        source, target = self.length(), self.length()
        src, tgt = self.sequences(source, self.width), self.sequences(target, self.width)
        if kind.startswith("encoder"):
            return Case(kind, options, [src], self.masks(KINDS[kind], source, source))
        lengths = {SOURCE: (source, source), TARGET: (target, target), MEMORY: (target, source)}
        masks = {k: v for names in KINDS[kind] for k, v in self.masks(names, *lengths[names]).items()}
        return Case(kind, options, [src, tgt] if kind == "transformer" else [tgt, src], masks)

    def sequences(self, length: int, width: int) -> np.ndarray:
        shape = (self.batch, length, width) if self.batch_first else (length, self.batch, width)
        shape = shape if self.batched else (length, width)
        return self.rng.standard_normal(shape).astype(self.dtype)

    def masks(self, names: tuple[str, str, str], queries: int, keys: int) -> dict[str, Any]:
        """Masks that leave the first key visible to all: PyTorch has NaN for a query that sees nothing."""
        mask_name, padding_name, causal_name = names
        masks: dict[str, Any] = {}
        form = self.rng.choice(["none", "causal", "together", "each"])
        if form == "causal":
            hint = self.flag()
            masks[mask_name] = self.as_mask(
                np.triu(np.ones((queries, keys), bool), 1), shifted=not hint and self.flag()
            )
            masks |= {causal_name: True} if hint else {}
        elif form != "none":
            shape = (queries, keys) if form == "together" else (self.batch * self.heads, queries, keys)
            masks[mask_name] = self.as_mask(self.rng.random(shape) < 0.4, shifted=self.flag())
        if self.flag():
            kept = self.rng.integers(1, keys + 1, (self.batch, 1))
            ends = np.arange(keys) >= kept
            hidden = ends if self.flag(0.7) else self.rng.random((self.batch, keys)) < 0.4
            padding = self.as_mask(hidden, shifted=self.flag())
            masks[padding_name] = padding if self.batched else padding[0]
        return masks

    def as_mask(self, hidden: np.ndarray, shifted: bool) -> np.ndarray:
        """Bools, or floats: zeros where visible, or any number if `shifted`."""
        hidden[..., 0] = False
        if not shifted and self.flag():
            return hidden
        shift = self.rng.standard_normal(hidden.shape) if shifted else 0.0
        return np.where(hidden, -np.inf, shift).astype(self.dtype)


def weights(shapes: dict[str, tuple[int, ...]], dtype: np.dtype) -> dict[str, np.ndarray]:
    """Values for a state dict: other ones for every name, norms near 1, nothing zero."""
    state = {}
    for name, shape in sorted(shapes.items()):
        rng = np.random.default_rng([ord(c) for c in name])
        scale = 0.3 if len(shape) == 1 else shape[-1] ** -0.5
        state[name] = (scale * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))).astype(dtype)
    return state


def run_tfcore(case: Case) -> list[np.ndarray]:
    """The output, and for attention its weights and the output that was computed without them."""
    options = case.options | {"dtype": case.dtype}
    layer = {
        "attention": nn.MultiHeadAttention,
        "encoder_layer": nn.EncoderLayer,
        "encoder": lambda **o: nn.Encoder(nn.EncoderLayer(**o), 2),
        "decoder_layer": nn.DecoderLayer,
        "decoder": lambda **o: nn.Decoder(nn.DecoderLayer(**o), 2, nn.LayerNorm(o["d_model"], dtype=o["dtype"])),
        "transformer": lambda **o: nn.Transformer(num_encoder_layers=2, num_decoder_layers=1, **o),
    }[case.kind](**options)
    layer.load_state_dict(weights({name: array.shape for name, array in layer.state_dict().items()}, case.dtype))
    return _call(layer, case.kind, case.inputs, case.masks)


def run_torch(case: Case) -> list[np.ndarray]:
    """The same by PyTorch."""
    import torch

    dtype = torch.float64 if case.dtype == np.float64 else torch.float32
    options = case.options | {"dtype": dtype, "dropout": 0.0}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it takes a slower path, that masks of two kinds will not do one day
        torch.backends.mha.set_fastpath_enabled(False)  # it leaves padding at zero
        layer = {
            "attention": torch.nn.MultiheadAttention,
            "encoder_layer": torch.nn.TransformerEncoderLayer,
            "encoder": lambda **o: torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(**o), 2),
            "decoder_layer": torch.nn.TransformerDecoderLayer,
            "decoder": lambda **o: torch.nn.TransformerDecoder(
                torch.nn.TransformerDecoderLayer(**o), 2, torch.nn.LayerNorm(o["d_model"], dtype=dtype)
            ),
            "transformer": lambda **o: torch.nn.Transformer(num_encoder_layers=2, num_decoder_layers=1, **o),
        }[case.kind](**options).eval()
        state = weights({name: tuple(value.shape) for name, value in layer.state_dict().items()}, case.dtype)
        layer.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        tensors = {id(x): torch.from_numpy(x) for x in case.inputs}  # what is one array is one tensor
        masks = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in case.masks.items()}
        results = _call(layer, case.kind, [tensors[id(x)] for x in case.inputs], masks)
        torch.backends.mha.set_fastpath_enabled(True)
    return [result.numpy() for result in results]


def _call(layer: Any, kind: str, inputs: list[Any], masks: dict[str, Any]) -> list[Any]:
    if kind != "attention":
        return [layer(*inputs, **masks)]
    output, found = layer(*inputs, need_weights=True, **masks)
    return [output, found, layer(*inputs, need_weights=False, **masks)[0]]
