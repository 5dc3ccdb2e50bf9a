"""Phi-3, Phi-3.5 and Phi-4 (Abdin et al. 2024): Llama with fused projections and LongRoPE."""

from dataclasses import replace

from ..architecture import Architecture
from ..config import Config
from ..family import GATE_UP, QKV, Part, fused
from .common import layers, window
from .llama import HEADS, LLAMA, NORMS, OUTPUTS, OUTSIDE, decoder, llama_block


def describe(config: Config) -> Architecture:
    for bias in ("attention_bias", "mlp_bias", "lm_head_bias"):
        config.expect(bias, False)
    block = replace(llama_block(config, eps=1e-5), window=window(config))
    return decoder(config, [block] * layers(config))


_FUSED = (
    fused(QKV, "layers.{i}.self_attn.qkv_proj"),
    fused(GATE_UP, "layers.{i}.mlp.gate_up_proj"),
)

PHI3 = replace(
    LLAMA,
    model_type="phi3",
    describe=describe,
    parts={"decoder": Part(OUTSIDE, (*_FUSED, *OUTPUTS, *NORMS))},
    heads={task: names for task, names in HEADS.items() if task != "question_answering"},
)
