"""ModernBERT (Warner et al. 2024): pre-norm blocks, rotary positions, gated GELU; few blocks see the whole text."""

from dataclasses import replace

from ..architecture import Architecture, Block, Embeddings, HeadSpec, StackSpec
from ..config import Config
from ..family import GATE_UP, QKV, Family, Part, fused, module
from .common import FULL, SLIDING, activation, head_size, kinds_of_layers, layers, rotary, window_around
from .llama import ATTENTION_BIASES, FEED_FORWARD_BIASES

_POOLING = {"cls": "first", "mean": "mean"}  # as configs name it → as heads do


def describe(config: Config) -> Architecture:
    width, words = config.positive_int("hidden_size"), config.positive_int("vocab_size")
    stack = StackSpec(width, Embeddings(words, width, norm=True), _blocks(config), final_norm=True)
    first = stack.blocks[0]
    head = HeadSpec(
        "all",
        words,
        dense=width,
        dense_bias=config.flag("classifier_bias", default=False),
        activation=activation(config, "classifier_activation", "gelu"),
        norm=first.eps,
        norm_bias="norm" in first.biases,
    )
    tied = config.flag("tie_word_embeddings", default=True)
    pooling = config.choice("classifier_pooling", _POOLING, default="cls")
    return Architecture(
        encoder=stack,
        heads={
            "masked_lm": replace(head, tied=tied, bias=config.flag("decoder_bias", default=True)),
            "sequence_classification": replace(head, rows=pooling, size=config.label_count()),
            "token_classification": replace(head, size=config.label_count()),
            "question_answering": replace(head, size=2),
        },
    )


def _blocks(config: Config) -> tuple[Block, ...]:
    heads, size, count = config.positive_int("num_attention_heads"), head_size(config), layers(config)
    every = config.positive_int("global_attn_every_n_layers", default=3)
    kinds = kinds_of_layers(config, [SLIDING if i % every else FULL for i in range(count)])
    far = config.positive_number("global_rope_theta", default=160_000.0)
    close = config.positive_number("local_rope_theta", default=far if "local_rope_theta" in config else 10_000.0)
    whole = Block(
        heads=heads,
        key_heads=heads,
        head_size=size,
        inner=config.positive_int("intermediate_size"),
        norm="layer",
        placement="pre",
        eps=config.positive_number("norm_eps", default=1e-5),
        activation=activation(config, "hidden_activation", "gelu"),
        gated=True,
        biases=_biases(config),
        rotary=rotary(config, size, kind=FULL, base=far),
    )
    near = replace(
        whole,
        window=window_around(config, "local_attention", default=128),
        rotary=rotary(config, size, kind=SLIDING, base=close),
    )
    blocks = [near if kind == SLIDING else whole for kind in kinds]
    return (replace(blocks[0], first_norm=False), *blocks[1:])  # the embeddings' norm serves the first block


def _biases(config: Config) -> frozenset[str]:
    groups = {"attention_bias": ATTENTION_BIASES, "mlp_bias": FEED_FORWARD_BIASES, "norm_bias": {"norm"}}
    return frozenset().union(*(names for field, names in groups.items() if config.flag(field, default=False)))


_LAYER = "layers.{i}"
_PREDICTION = (module("head.dense", "head.dense"), module("head.norm", "head.norm"))
_CLASSIFIER = (*_PREDICTION, module("head.out", "classifier"))

MODERNBERT = Family(
    model_type="modernbert",
    describe=describe,
    parts={
        "encoder": Part(
            outside=(
                module("embeddings.word", "embeddings.tok_embeddings"),
                module("embeddings.word", "decoder"),  # where the tied table was saved under this name alone
                module("embeddings.norm", "embeddings.norm"),
                module("final_norm", "final_norm"),
            ),
            block=(
                module("attention.norm", f"{_LAYER}.attn_norm"),
                fused(QKV, f"{_LAYER}.attn.Wqkv"),
                module("attention.output", f"{_LAYER}.attn.Wo"),
                module("feed_forward.norm", f"{_LAYER}.mlp_norm"),
                fused(GATE_UP, f"{_LAYER}.mlp.Wi"),
                module("feed_forward.down", f"{_LAYER}.mlp.Wo"),
            ),
        )
    },
    heads={
        "masked_lm": (*_PREDICTION, module("head.out", "decoder")),
        "sequence_classification": _CLASSIFIER,
        "token_classification": _CLASSIFIER,
        "question_answering": _CLASSIFIER,
    },
    prefixes=("model.",),
)
