"""GPT-NeoX (Black et al. 2022) and Pythia: a part of each head turns, both halves of a block read the same input."""

from ..architecture import EVERY_BIAS, Architecture, Block, Embeddings, StackSpec
from ..config import Config
from ..family import QKV, Family, Part, fused, module
from .common import CLASSIFIERS, activation, decoder_heads, head_size, layers, rotary
from .llama import ATTENTION_BIASES


def describe(config: Config) -> Architecture:
    width, words = config.positive_int("hidden_size"), config.positive_int("vocab_size")
    heads, size = config.positive_int("num_attention_heads"), head_size(config)
    base = config.positive_number("rotary_emb_base", default=10000.0)
    part = config.positive_number("rotary_pct", default=0.25)
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=size,
        inner=config.positive_int("intermediate_size"),
        norm="layer",
        placement="parallel" if config.flag("use_parallel_residual", default=True) else "pre",
        eps=config.positive_number("layer_norm_eps", default=1e-5),
        activation=activation(config, "hidden_act", "gelu"),
        biases=EVERY_BIAS if config.flag("attention_bias", default=True) else EVERY_BIAS - ATTENTION_BIASES,
        causal=True,
        rotary=rotary(config, size, base=base, part=part),
    )
    return Architecture(
        decoder=StackSpec(width, Embeddings(words, width), (block,) * layers(config), final_norm=True),
        heads=decoder_heads(config, tied=False),
    )


_LAYER = "layers.{i}"

GPT_NEOX = Family(
    model_type="gpt_neox",
    describe=describe,
    parts={
        "decoder": Part(
            outside=(module("embeddings.word", "embed_in"), module("final_norm", "final_layer_norm")),
            block=(
                fused(QKV, f"{_LAYER}.attention.query_key_value", by_head=True),
                module("attention.output", f"{_LAYER}.attention.dense"),
                module("attention.norm", f"{_LAYER}.input_layernorm"),
                module("feed_forward.up", f"{_LAYER}.mlp.dense_h_to_4h"),
                module("feed_forward.down", f"{_LAYER}.mlp.dense_4h_to_h"),
                module("feed_forward.norm", f"{_LAYER}.post_attention_layernorm"),
            ),
        )
    },
    heads={
        "causal_lm": (module("head.out", "embed_out"),),
        "sequence_classification": (module("head.out", "score"),),
        **CLASSIFIERS,
    },
    prefixes=("gpt_neox.",),
    ignored=(r"layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),  # buffers that old versions saved
)
