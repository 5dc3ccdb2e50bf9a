"""Llama (Touvron et al. 2023): RMS norms before, rotary positions, grouped heads, SwiGLU. Also SmolLM2 and TinyLlama.

Most decoders since are Llama with a trait or two of their own: what they share is here.
"""

from collections.abc import Sequence

from ..architecture import NO_BIAS, Architecture, Block, Embeddings, Rotary, StackSpec
from ..config import Config
from ..family import Family, Part, Source, module
from .common import activation, decoder_heads, head_size, layers, rotary

QKV_BIASES = frozenset({"query", "key", "value"})
ATTENTION_BIASES = QKV_BIASES | {"output"}
FEED_FORWARD_BIASES = frozenset({"gate", "up", "down"})


def describe(config: Config) -> Architecture:
    biases = attention_biases(config)
    if config.flag("mlp_bias", default=False):
        biases = biases | FEED_FORWARD_BIASES
    return decoder(config, [llama_block(config, biases)] * layers(config))


def attention_biases(config: Config) -> frozenset[str]:
    return ATTENTION_BIASES if config.flag("attention_bias", default=False) else NO_BIAS


def llama_block(
    config: Config,
    biases: frozenset[str] = NO_BIAS,
    *,
    size: int | None = None,
    eps: float = 1e-6,
    act: tuple[str, str] = ("hidden_act", "silu"),
    turn: Rotary | None = None,
) -> Block:
    """Llama's block, and where a family differs: a head's `size`, `eps`, the activation's field and default, `turn`."""
    heads, size = config.positive_int("num_attention_heads"), head_size(config, default=size)
    key_heads = config.positive_int("num_key_value_heads", default=heads)
    if heads % key_heads:
        divided = f"expected a divisor of 'num_attention_heads', {heads}"
        raise ValueError(f"{config.path}: field 'num_key_value_heads' is {key_heads}, {divided}")
    return Block(
        heads=heads,
        key_heads=key_heads,
        head_size=size,
        inner=config.positive_int("intermediate_size"),
        norm="rms",
        placement="pre",
        eps=config.positive_number("rms_norm_eps", default=eps),
        activation=activation(config, *act),
        gated=True,
        biases=biases,
        causal=True,
        rotary=turn or rotary(config, size),
    )


def decoder(
    config: Config,
    blocks: Sequence[Block],
    *,
    scale: float = 1.0,
    tied: bool = False,
    softcap: float = 0.0,
) -> Architecture:
    """A decoder of these blocks: its word embeddings scaled, tied by default or not, its logits capped or not."""
    width, words = config.positive_int("hidden_size"), config.positive_int("vocab_size")
    return Architecture(
        decoder=StackSpec(width, Embeddings(words, width, scale), tuple(blocks), final_norm=True),
        heads=decoder_heads(config, tied=tied, softcap=softcap),
    )


_LAYER = "layers.{i}"
OUTSIDE = (module("embeddings.word", "embed_tokens"), module("final_norm", "norm"))
QUERY_KEY_VALUE = (
    module("attention.query", f"{_LAYER}.self_attn.q_proj"),
    module("attention.key", f"{_LAYER}.self_attn.k_proj"),
    module("attention.value", f"{_LAYER}.self_attn.v_proj"),
)
GATE_UP = (
    module("feed_forward.gate", f"{_LAYER}.mlp.gate_proj"),
    module("feed_forward.up", f"{_LAYER}.mlp.up_proj"),
)
OUTPUTS = (
    module("attention.output", f"{_LAYER}.self_attn.o_proj"),
    module("feed_forward.down", f"{_LAYER}.mlp.down_proj"),
)
NORMS = (
    module("attention.norm", f"{_LAYER}.input_layernorm"),
    module("feed_forward.norm", f"{_LAYER}.post_attention_layernorm"),
)
BLOCK = (*QUERY_KEY_VALUE, *GATE_UP, *OUTPUTS, *NORMS)
HEADS: dict[str, tuple[Source, ...]] = {
    "causal_lm": (module("head.out", "lm_head"),),
    "sequence_classification": (module("head.out", "score"),),
    "token_classification": (module("head.out", "score"),),
    "question_answering": (module("head.out", "qa_outputs"),),
}

LLAMA = Family(
    model_type="llama",
    describe=describe,
    parts={"decoder": Part(OUTSIDE, BLOCK)},
    heads=HEADS,
    prefixes=("model.", "transformer."),
    ignored=(r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",),  # a buffer that old versions saved
)
