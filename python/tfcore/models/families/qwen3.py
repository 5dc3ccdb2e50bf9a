"""Qwen3 (Yang et al. 2025): Qwen2 with a norm over each query's and key's head in place of the biases."""

from dataclasses import replace

from ..architecture import NO_BIAS, Architecture
from ..config import Config
from ..family import Family, Part, module
from .llama import ATTENTION_BIASES, BLOCK, HEADS, IGNORED, OUTSIDE, PREFIXES, decoder, llama_block
from .qwen2 import with_windows


def describe(config: Config) -> Architecture:
    biases = ATTENTION_BIASES if config.flag("attention_bias", default=False) else NO_BIAS
    block = replace(llama_block(config, biases, size=128), head_norm=True)
    return decoder(config, with_windows(config, block))


_HEAD_NORMS = (
    module("attention.query_norm", "layers.{i}.self_attn.q_norm"),
    module("attention.key_norm", "layers.{i}.self_attn.k_norm"),
)

QWEN3 = Family(
    model_type="qwen3",
    describe=describe,
    parts={"decoder": Part(OUTSIDE, (*BLOCK, *_HEAD_NORMS))},
    heads=HEADS,
    prefixes=PREFIXES,
    ignored=IGNORED,
)
