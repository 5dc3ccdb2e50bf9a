"""GPT-2 (Radford et al. 2019): learned positions, layer norms before, a fused projection, matrices stored (in, out)."""

from dataclasses import replace

from ..architecture import Architecture, Block, Embeddings, StackSpec
from ..config import Config
from ..family import QKV, Family, Part, fused, module
from .common import CLASSIFIERS, activation, decoder_heads, head_size, layers


def describe(config: Config) -> Architecture:
    config.expect("add_cross_attention", False)
    width, words = config.positive_int("n_embd"), config.positive_int("vocab_size")
    heads, size = config.positive_int("n_head"), head_size(config, "n_embd", "n_head")
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=size,
        inner=config.positive_int("n_inner", default=4 * width),
        norm="layer",
        placement="pre",
        eps=config.positive_number("layer_norm_epsilon", default=1e-5),
        activation=activation(config, "activation_function", "gelu_new"),
        scale=size**-0.5 if config.flag("scale_attn_weights", default=True) else 1.0,
        causal=True,
    )
    blocks = [block] * layers(config, "n_layer")
    if config.flag("scale_attn_by_inverse_layer_idx", default=False):
        blocks = [replace(block, scale=(block.scale or 1.0) / (i + 1)) for i in range(len(blocks))]
    positions = config.positive_int("n_positions", default=1024)
    embeddings = Embeddings(words, width, positions=positions, typed_by_words=True)
    return Architecture(
        decoder=StackSpec(width, embeddings, tuple(blocks), final_norm=True),
        heads=decoder_heads(config, tied=True),
    )


_LAYER = "h.{i}"

GPT2 = Family(
    model_type="gpt2",
    describe=describe,
    parts={
        "decoder": Part(
            outside=(
                module("embeddings.word", "wte"),
                module("embeddings.position", "wpe"),
                module("final_norm", "ln_f"),
            ),
            block=(
                fused(QKV, f"{_LAYER}.attn.c_attn", transposed=True),
                module("attention.output", f"{_LAYER}.attn.c_proj", transposed=True),
                module("attention.norm", f"{_LAYER}.ln_1"),
                module("feed_forward.up", f"{_LAYER}.mlp.c_fc", transposed=True),
                module("feed_forward.down", f"{_LAYER}.mlp.c_proj", transposed=True),
                module("feed_forward.norm", f"{_LAYER}.ln_2"),
            ),
        )
    },
    heads={
        "causal_lm": (module("head.out", "lm_head"),),
        "sequence_classification": (module("head.out", "score"),),
        **CLASSIFIERS,
    },
    prefixes=("transformer.",),
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),  # buffers that old versions saved
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
)
