"""Encoders of the BERT kind with random weights: one checkpoint, opened by every rival in its own way."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import reference
from . import ctranslate2_peers, onnx_graphs, onnxruntime_peers, openvino_peers, plain, torch_peers
from .random_checkpoint import Weights, random_weights, write_checkpoint
from .timing import Run

__all__ = ["BERT_BASE", "MINILM_L6", "Models", "Shape", "flops", "forward", "opened"]

Float64 = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """The sizes that the time depends on; the vocabulary is small, since looking up a row costs the same in any."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    positions: int = 512
    vocabulary: int = 1000


BERT_BASE = Shape("BERT-base", layers=12, width=768, inner=3072, heads=12)
MINILM_L6 = Shape("MiniLM-L6", layers=6, width=384, inner=1536, heads=12)


def flops(shape: Shape, batch: int, length: int) -> float:
    """Two a multiply-add: four C x C and two C x F products a token, and L x L x C twice a sequence, in each layer."""
    products = batch * length * (4 * shape.width**2 + 2 * shape.width * shape.inner)
    attention = batch * 2 * length**2 * shape.width
    return 2.0 * shape.layers * (products + attention)


# --- the checkpoint --------------------------------------------------------------------------------------------------


def config_of(shape: Shape) -> dict[str, Any]:
    """What `config.json` says of it."""
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,
    }


# --- the rivals ------------------------------------------------------------------------------------------------------


class Models:
    """The weights, and each rival's call on token ids; the checkpoint is opened once by each that is installed."""

    def __init__(self, shape: Shape) -> None:
        self.weights = random_weights(config_of(shape))
        self._graph_of = self.weights, shape.layers, shape.heads
        with tempfile.TemporaryDirectory(prefix="tfcore-bench-") as folder:
            write_checkpoint(Path(folder), config_of(shape), self.weights)
            self._tfcore = _unless_missing(_open_tfcore, folder)
            self._torch = _unless_missing(_open_transformers, folder)
            self._ctranslate2 = _unless_missing(partial(ctranslate2_peers.open_model, kind="Encoder"), folder)

    def tfcore(self, ids: Ids) -> Run:
        model, mask = self._tfcore(), np.ones_like(ids)
        return lambda: model(ids, mask).last_hidden_state

    def torch(self, ids: Ids) -> Run:
        model, torch = self._torch(), torch_peers.load()
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.ones(ids.shape, dtype=torch.int64)}
        run: Run = torch.inference_mode()(lambda: model(**inputs).last_hidden_state)
        return run

    def onnxruntime(self, ids: Ids) -> Run:
        return onnxruntime_peers.run(onnx_graphs.FusedEncoder(*self._graph_of).model(ids), {"ids": ids})

    def openvino(self, ids: Ids) -> Run:
        return openvino_peers.run(onnx_graphs.Encoder(*self._graph_of).model(ids), {"ids": ids})

    def ctranslate2(self, ids: Ids) -> Run:
        return ctranslate2_peers.encode(self._ctranslate2(), ids)


def _unless_missing(open_model: Callable[[str], Any], folder: str) -> Callable[[], Any]:
    """Opens it now, while the folder is there; what is returned gives the model, or raises what was missing."""
    try:
        model = open_model(folder)
    except ImportError as error:
        reason = str(error)

        def missing() -> Any:
            raise ImportError(reason)

        return missing
    return lambda: model


@functools.lru_cache(maxsize=1)
def opened(shape: Shape) -> Models:
    """Cases of one model share it; the next model takes its place in memory."""
    return Models(shape)


def _open_tfcore(folder: str) -> Any:
    from ..models import AutoModel

    return AutoModel.from_pretrained(folder)


def _open_transformers(folder: str) -> Any:
    return torch_peers.load_transformers().BertModel.from_pretrained(folder).eval()


# --- the result in float64 -------------------------------------------------------------------------------------------


def forward(shape: Shape, weights: Weights, ids: Ids) -> Float64:
    """last_hidden_state (B, L, C): embeddings, then post-norm blocks, as Devlin et al. 2018 describe them."""

    def get(name: str) -> Float64:
        return weights[name].astype(np.float64)

    def dense(name: str, x: Float64) -> Float64:
        return plain.linear(x, get(f"{name}.weight"), get(f"{name}.bias"))

    def norm(name: str, x: Float64) -> Float64:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + 1e-12)
        return np.asarray(centred / deviation * get(f"{name}.weight") + get(f"{name}.bias"))

    def split(x: Float64) -> Float64:
        return np.swapaxes(x.reshape(*ids.shape, shape.heads, -1), 1, 2)

    words, positions, types = (
        get(f"embeddings.{kind}_embeddings.weight") for kind in ("word", "position", "token_type")
    )
    x = norm("embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + types[0])
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}"
        q, k, v = (split(dense(f"{layer}.attention.self.{part}", x)) for part in ("query", "key", "value"))
        heads = plain.attention(q, k, v).swapaxes(1, 2).reshape(x.shape)
        x = norm(f"{layer}.attention.output.LayerNorm", x + dense(f"{layer}.attention.output.dense", heads))
        inner = reference.gelu(dense(f"{layer}.intermediate.dense", x))
        x = norm(f"{layer}.output.LayerNorm", x + dense(f"{layer}.output.dense", inner))
    return x
