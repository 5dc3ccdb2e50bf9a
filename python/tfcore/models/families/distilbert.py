"""DistilBERT (Sanh et al. 2019): BERT without token types and pooler, under names of its own."""

from ..architecture import Architecture, Block, Embeddings, HeadSpec, StackSpec
from ..config import Config
from ..family import Family, Part, module
from . import bert
from .common import CLASSIFIERS, activation, classifiers, head_size, layers, masked_lm


def describe(config: Config) -> Architecture:
    width, heads = config.positive_int("dim"), config.positive_int("n_heads")
    words, act = config.positive_int("vocab_size"), activation(config, "activation", "gelu")
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=head_size(config, "dim", "n_heads"),
        inner=config.positive_int("hidden_dim"),
        norm="layer",
        placement="post",
        eps=1e-12,
        activation=act,
    )
    embeddings = Embeddings(words, width, positions=config.positive_int("max_position_embeddings"), norm=True)
    stack = StackSpec(width, embeddings, (block,) * layers(config, "n_layers"))
    return Architecture(
        encoder=stack,
        heads={
            "masked_lm": masked_lm(config, stack, act),
            "sequence_classification": HeadSpec("first", config.label_count(), dense=width, activation="relu"),
            **classifiers(config),
        },
    )


_LAYER = "transformer.layer.{i}"

DISTILBERT = Family(
    model_type="distilbert",
    describe=describe,
    parts={
        "encoder": Part(
            outside=(
                *bert.EMBEDDINGS,
                module("embeddings.word", "vocab_projector"),  # where the tied table was saved under this name alone
            ),
            block=(
                module("attention.query", f"{_LAYER}.attention.q_lin"),
                module("attention.key", f"{_LAYER}.attention.k_lin"),
                module("attention.value", f"{_LAYER}.attention.v_lin"),
                module("attention.output", f"{_LAYER}.attention.out_lin"),
                module("attention.after_norm", f"{_LAYER}.sa_layer_norm"),
                module("feed_forward.up", f"{_LAYER}.ffn.lin1"),
                module("feed_forward.down", f"{_LAYER}.ffn.lin2"),
                module("feed_forward.after_norm", f"{_LAYER}.output_layer_norm"),
            ),
        )
    },
    heads={
        "masked_lm": (
            module("head.dense", "vocab_transform"),
            module("head.norm", "vocab_layer_norm"),
            module("head.out", "vocab_projector"),
        ),
        "sequence_classification": (module("head.dense", "pre_classifier"), module("head.out", "classifier")),
        **CLASSIFIERS,
    },
    prefixes=("distilbert.",),
    renamed=bert.OLD_NORMS,
    ignored=(bert.BUFFERS,),
    aliases={"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
)
