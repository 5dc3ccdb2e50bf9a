"""Qwen2 and Qwen2.5 (Yang et al. 2024): Llama with biases of queries, keys and values."""

from dataclasses import replace

from ..architecture import Architecture, Block
from ..config import Config
from .common import EVERYWHERE, FULL, SLIDING, kinds_of_layers, layers, window
from .llama import LLAMA, QKV_BIASES, decoder, llama_block


def describe(config: Config) -> Architecture:
    config.expect("use_mrope", False)
    return decoder(config, with_windows(config, llama_block(config, QKV_BIASES)))


def with_windows(config: Config, block: Block) -> list[Block]:
    """The block once a layer: the first `max_window_layers` see all, the others a window, if it is used at all."""
    sliding = window(config, default=4096) if config.flag("use_sliding_window", default=False) else EVERYWHERE
    full = config.get("max_window_layers")
    full = 28 if full is None else full if full == 0 else config.positive_int("max_window_layers")
    kinds = kinds_of_layers(config, [FULL if i < full else SLIDING for i in range(layers(config))])
    return [replace(block, window=sliding if kind == SLIDING else EVERYWHERE) for kind in kinds]


QWEN2 = replace(LLAMA, model_type="qwen2", describe=describe)
