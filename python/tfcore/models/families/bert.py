"""BERT: learned positions, token types, post-norm blocks. Also MiniLM, BGE, E5, GTE and all that say "bert"."""

from ..architecture import Architecture, Block, Embeddings, HeadSpec, StackSpec
from ..config import Config
from ..family import Family, Part, bias_only, module
from .common import CLASSIFIERS, activation, classifiers, head_size, layers, masked_lm


def describe(config: Config) -> Architecture:
    stack = encoder(config)
    first = stack.blocks[0]
    return Architecture(
        encoder=stack,
        heads={
            "masked_lm": masked_lm(config, stack, first.activation),
            "sequence_classification": HeadSpec("pooler", config.label_count()),
            **classifiers(config),
        },
        pooler=True,
    )


def encoder(config: Config) -> StackSpec:
    """BERT's stack, of which its descendants change a field or two."""
    config.expect("position_embedding_type", "absolute")
    config.expect("is_decoder", False)
    config.expect("add_cross_attention", False)
    width, heads = config.positive_int("hidden_size"), config.positive_int("num_attention_heads")
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=head_size(config),
        inner=config.positive_int("intermediate_size"),
        norm="layer",
        placement="post",
        eps=config.positive_number("layer_norm_eps", default=1e-12),
        activation=activation(config, "hidden_act", "gelu"),
    )
    embeddings = Embeddings(
        vocabulary=config.positive_int("vocab_size"),
        width=width,
        positions=config.positive_int("max_position_embeddings"),
        token_types=config.positive_int("type_vocab_size", default=2),
        norm=True,
    )
    return StackSpec(width, embeddings, (block,) * layers(config))


_LAYER = "encoder.layer.{i}"
_ATTENTION = f"{_LAYER}.attention"

EMBEDDINGS = (
    module("embeddings.word", "embeddings.word_embeddings"),
    module("embeddings.position", "embeddings.position_embeddings"),
    module("embeddings.token_type", "embeddings.token_type_embeddings"),
    module("embeddings.norm", "embeddings.LayerNorm"),
)
FEED_FORWARD = (
    module("feed_forward.up", f"{_LAYER}.intermediate.dense"),
    module("feed_forward.down", f"{_LAYER}.output.dense"),
    module("feed_forward.after_norm", f"{_LAYER}.output.LayerNorm"),
)
BLOCK = (
    module("attention.query", f"{_ATTENTION}.self.query"),
    module("attention.key", f"{_ATTENTION}.self.key"),
    module("attention.value", f"{_ATTENTION}.self.value"),
    module("attention.output", f"{_ATTENTION}.output.dense"),
    module("attention.after_norm", f"{_ATTENTION}.output.LayerNorm"),
    *FEED_FORWARD,
)
OLD_NORMS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
BUFFERS = r"embeddings\.(position_ids|token_type_ids)"  # that old versions saved

BERT = Family(
    model_type="bert",
    describe=describe,
    parts={"encoder": Part(outside=EMBEDDINGS, block=BLOCK)},
    heads={
        "masked_lm": (
            module("head.dense", "cls.predictions.transform.dense"),
            module("head.norm", "cls.predictions.transform.LayerNorm"),
            module("head.out", "cls.predictions.decoder"),
            bias_only("head.out", "cls.predictions.bias"),
        ),
        "sequence_classification": (module("head.out", "classifier"),),
        **CLASSIFIERS,
    },
    pooler="pooler.dense",
    prefixes=("bert.",),
    renamed=OLD_NORMS,
    ignored=(BUFFERS, r"cls\.seq_relationship\..*"),  # the latter of next sentences
)
