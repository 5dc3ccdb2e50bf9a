"""Llama (Touvron et al. 2023): RMS norms before, rotary positions, grouped heads, SwiGLU. Also SmolLM2 and
TinyLlama."""

from ..architecture import NO_BIAS, Architecture, Block, Embeddings, Head, Stack
from ..config import Config
from ..family import Family, Part, module
from .common import activation, classifiers, head_size, labels, layers, rotary


def describe(config: Config) -> Architecture:
    width, heads = config.positive_int("hidden_size"), config.positive_int("num_attention_heads")
    words, size = config.positive_int("vocab_size"), head_size(config)
    attention = {"query", "key", "value", "output"} if config.flag("attention_bias", default=False) else NO_BIAS
    feed_forward = {"gate", "up", "down"} if config.flag("mlp_bias", default=False) else NO_BIAS
    block = Block(
        heads=heads,
        key_heads=config.positive_int("num_key_value_heads", default=heads),
        head_size=size,
        inner=config.positive_int("intermediate_size"),
        norm="rms",
        placement="pre",
        eps=config.positive_number("rms_norm_eps", default=1e-6),
        activation=activation(config, "hidden_act", "silu"),
        gated=True,
        biases=frozenset(attention) | feed_forward,
        causal=True,
        rotary=rotary(config, size),
    )
    tied = config.flag("tie_word_embeddings", default=False)
    return Architecture(
        decoder=Stack(width, Embeddings(words, width), (block,) * layers(config), final_norm=True),
        heads={
            "causal_lm": Head("all", words, tied=tied, bias=False),
            "sequence_classification": Head("last", labels(config), bias=False),
            **classifiers(config),
        },
    )


_LAYER = "layers.{i}"

DECODER = Part(
    outside=(module("embeddings.word", "embed_tokens"), module("final_norm", "norm")),
    block=(
        module("attention.query", f"{_LAYER}.self_attn.q_proj"),
        module("attention.key", f"{_LAYER}.self_attn.k_proj"),
        module("attention.value", f"{_LAYER}.self_attn.v_proj"),
        module("attention.output", f"{_LAYER}.self_attn.o_proj"),
        module("attention.norm", f"{_LAYER}.input_layernorm"),
        module("feed_forward.gate", f"{_LAYER}.mlp.gate_proj"),
        module("feed_forward.up", f"{_LAYER}.mlp.up_proj"),
        module("feed_forward.down", f"{_LAYER}.mlp.down_proj"),
        module("feed_forward.norm", f"{_LAYER}.post_attention_layernorm"),
    ),
)
HEADS = {
    "causal_lm": (module("head.out", "lm_head"),),
    "sequence_classification": (module("head.out", "score"),),
    "token_classification": (module("head.out", "score"),),
    "question_answering": (module("head.out", "qa_outputs"),),
}

LLAMA = Family(
    model_type="llama",
    describe=describe,
    parts={"decoder": DECODER},
    heads=HEADS,
    prefixes=("model.", "transformer."),
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),  # a buffer that old versions saved
)
