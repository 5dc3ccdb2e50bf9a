"""Qwen3 (Yang et al. 2025): Qwen2 with a norm over each query's and key's head in place of the biases."""

from dataclasses import replace

from ..architecture import Architecture
from ..config import Config
from ..family import Part, module
from .llama import BLOCK, LLAMA, OUTSIDE, attention_biases, decoder, llama_block
from .qwen2 import with_windows


def describe(config: Config) -> Architecture:
    block = replace(llama_block(config, attention_biases(config), size=128), head_norm=True)
    return decoder(config, with_windows(config, block))


_HEAD_NORMS = (
    module("attention.query_norm", "layers.{i}.self_attn.q_norm"),
    module("attention.key_norm", "layers.{i}.self_attn.k_norm"),
)

QWEN3 = replace(LLAMA, model_type="qwen3", describe=describe, parts={"decoder": Part(OUTSIDE, (*BLOCK, *_HEAD_NORMS))})
