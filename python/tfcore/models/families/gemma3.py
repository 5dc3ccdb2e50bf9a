"""Gemma 3's text models (Gemma Team 2025): norms around branches, windows in five layers of six, two rotations."""

from dataclasses import replace

from ..architecture import Architecture, Block, Rotary
from ..config import Config
from ..family import Part, module
from .common import EVERYWHERE, FULL, SLIDING, head_size, kinds_of_layers, layers, rotary, window
from .llama import GATE_UP, HEADS, LLAMA, OUTPUTS, QUERY_KEY_VALUE, attention_biases, decoder, llama_block


def describe(config: Config) -> Architecture:
    config.expect("use_bidirectional_attention", False)
    config.expect("attn_logit_softcapping", None)
    every = config.positive_int("sliding_window_pattern", default=6)
    kinds = kinds_of_layers(config, [SLIDING if (i + 1) % every else FULL for i in range(layers(config))])
    each = {FULL: _block(config, FULL), SLIDING: _block(config, SLIDING)}
    capped = config.get("final_logit_softcapping") is not None
    return decoder(
        config,
        [each[kind] for kind in kinds],
        scale=config.positive_int("hidden_size") ** 0.5,
        tied=True,
        softcap=config.positive_number("final_logit_softcapping") if capped else 0.0,
    )


def _block(config: Config, kind: str) -> Block:
    size, act = head_size(config, default=256), ("hidden_activation", "gelu_pytorch_tanh")
    return replace(
        llama_block(config, attention_biases(config), size=size, act=act, turn=_rotary(config, size, kind)),
        placement="sandwich",
        head_norm=True,
        scale=config.positive_number("query_pre_attn_scalar", default=256) ** -0.5,
        window=window(config, default=4096) if kind == SLIDING else EVERYWHERE,
    )


def _rotary(config: Config, size: int, kind: str) -> Rotary:
    parameters = config.get("rope_parameters") or {}
    if parameters and not (isinstance(parameters, dict) and parameters.keys() <= {FULL, SLIDING}):
        raise ValueError(
            f"{config.path}: field 'rope_parameters' is {parameters}, expected some for {FULL} and {SLIDING}"
        )
    if kind == SLIDING and SLIDING not in parameters:
        return Rotary(size, config.positive_number("rope_local_base_freq", default=1e4))
    return rotary(config, size, kind=kind, base=1e4 if kind == SLIDING else 1e6)


_LAYER = "layers.{i}"
_NORMS = tuple(
    module(ours, theirs, shift=1.0)  # the files hold what a weight of a norm is more than 1
    for ours, theirs in {
        "attention.query_norm": f"{_LAYER}.self_attn.q_norm",
        "attention.key_norm": f"{_LAYER}.self_attn.k_norm",
        "attention.norm": f"{_LAYER}.input_layernorm",
        "attention.branch_norm": f"{_LAYER}.post_attention_layernorm",
        "feed_forward.norm": f"{_LAYER}.pre_feedforward_layernorm",
        "feed_forward.branch_norm": f"{_LAYER}.post_feedforward_layernorm",
    }.items()
)

GEMMA3 = replace(
    LLAMA,
    model_type="gemma3_text",
    describe=describe,
    parts={
        "decoder": Part(
            outside=(module("embeddings.word", "embed_tokens"), module("final_norm", "norm", shift=1.0)),
            block=(*QUERY_KEY_VALUE, *GATE_UP, *OUTPUTS, *_NORMS),
        )
    },
    heads={task: HEADS[task] for task in ("causal_lm", "sequence_classification")},
)
