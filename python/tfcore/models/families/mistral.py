"""Mistral (Jiang et al. 2023): Llama whose queries see a window of keys, in all layers or in those that are named."""

from dataclasses import replace

from ..architecture import Architecture
from ..config import Config
from .common import FULL, SLIDING, kinds_of_layers, layers, window
from .llama import LLAMA, decoder, llama_block


def describe(config: Config) -> Architecture:
    block = llama_block(config)
    each = {FULL: block, SLIDING: replace(block, window=window(config, default=4096))}
    return decoder(config, [each[kind] for kind in kinds_of_layers(config, [SLIDING] * layers(config))])


MISTRAL = replace(LLAMA, model_type="mistral", describe=describe)
