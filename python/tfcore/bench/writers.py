"""Models that write: SmolLM2's real weights, and random ones in the shapes of GPT-2 small and T5-small."""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..carried import smollm2_file
from . import ctranslate2_peers, torch_peers
from .random_checkpoint import random_weights, write_checkpoint

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shape:
    """A model's config, the class that opens it, here and in Transformers, and its task."""

    name: str
    task: str
    auto_class: str
    config: dict[str, Any]


GPT2_SMALL = Shape(
    "GPT-2 small",
    "causal_lm",
    "AutoModelForCausalLM",
    {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "bos_token_id": 0,
        "eos_token_id": None,
        "pad_token_id": 0,
    },
)
T5_SMALL = Shape(
    "T5-small",
    "seq2seq_lm",
    "AutoModelForSeq2SeqLM",
    {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "is_encoder_decoder": True,
    },
)


class Models:
    """One checkpoint, opened by tfcore, by Transformers and by CTranslate2; its folder lives as long as this."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._folder = Path(tempfile.mkdtemp(prefix="tfcore-bench-"))
        weakref.finalize(self, shutil.rmtree, self._folder)
        write_checkpoint(self._folder, shape.config, random_weights(shape.config, shape.task))
        self.tfcore = _auto(shape.auto_class).from_pretrained(self._folder)

    @functools.cached_property
    def torch(self) -> Any:
        """Transformers' model. ImportError where it is not installed."""
        auto = getattr(torch_peers.load_transformers(), self._shape.auto_class)
        return auto.from_pretrained(self._folder).eval()

    @functools.cached_property
    def ctranslate2(self) -> Any:
        """CTranslate2's. ImportError where it is not installed."""
        kind = "Translator" if self._shape.task == "seq2seq_lm" else "Generator"
        return ctranslate2_peers.open_model(str(self._folder), kind)


def _auto(name: str) -> Any:
    from .. import models

    return getattr(models, name)


@functools.lru_cache(maxsize=1)
def opened(shape: Shape) -> Models:
    """Cases of one model share it; the next model takes its place in memory."""
    return Models(shape)


@functools.lru_cache(maxsize=1)
def smollm2() -> Any:
    """SmolLM2 in tfcore."""
    return _auto("AutoModelForCausalLM").from_pretrained(smollm2_file())
