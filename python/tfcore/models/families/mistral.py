"""Mistral (Jiang et al. 2023): Llama whose queries see a window of keys."""

from dataclasses import replace

from ..architecture import Architecture
from ..config import Config
from ..family import Family, Part
from .common import layers, window
from .llama import BLOCK, HEADS, IGNORED, OUTSIDE, PREFIXES, decoder, llama_block


def describe(config: Config) -> Architecture:
    block = replace(llama_block(config), window=window(config, default=4096))
    return decoder(config, [block] * layers(config))


MISTRAL = Family(
    model_type="mistral",
    describe=describe,
    parts={"decoder": Part(OUTSIDE, BLOCK)},
    heads=HEADS,
    prefixes=PREFIXES,
    ignored=IGNORED,
)
