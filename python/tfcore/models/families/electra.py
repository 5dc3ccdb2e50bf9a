"""ELECTRA (Clark et al. 2020): BERT, with words of a width of their own. Discriminators and generators alike."""

from dataclasses import replace

from ..architecture import Architecture, HeadSpec
from ..config import Config
from ..family import Family, Part, module
from . import bert
from .common import CLASSIFIERS, classifiers, dense_and_out, masked_lm


def describe(config: Config) -> Architecture:
    plain = bert.encoder(config)
    narrow = config.positive_int("embedding_size", default=128)
    stack = replace(plain, embeddings=replace(plain.embeddings, width=narrow))
    return Architecture(
        encoder=stack,
        heads={
            "masked_lm": masked_lm(config, stack, "gelu"),
            "sequence_classification": HeadSpec("first", config.label_count(), dense=stack.width, activation="gelu"),
            **classifiers(config),
        },
    )


ELECTRA = Family(
    model_type="electra",
    describe=describe,
    parts={
        "encoder": Part(
            outside=(
                *bert.EMBEDDINGS,
                module("embeddings.word", "generator_lm_head"),  # where the tied table was saved under this name alone
                module("embeddings.projection", "embeddings_project"),
            ),
            block=bert.BLOCK,
        )
    },
    heads={
        "masked_lm": (
            module("head.dense", "generator_predictions.dense"),
            module("head.norm", "generator_predictions.LayerNorm"),
            module("head.out", "generator_lm_head"),
        ),
        "sequence_classification": dense_and_out("classifier"),
        **CLASSIFIERS,
    },
    prefixes=("electra.",),
    renamed=bert.OLD_NORMS,
    ignored=(bert.BUFFERS, r"discriminator_predictions\..*"),  # the latter of replaced words
)
