"""ELECTRA (Clark et al. 2020): BERT, with words of a width of their own. Discriminators and generators alike."""

from dataclasses import replace

from ..architecture import Architecture, Head
from ..config import Config
from ..family import Family, Part, module
from . import bert
from .common import classifiers


def describe(config: Config) -> Architecture:
    stack = bert.encoder(config)
    narrow = config.positive_int("embedding_size", default=128)
    masked = Head(
        "all",
        stack.embeddings.vocabulary,
        tied=config.flag("tie_word_embeddings", default=True),
        dense=narrow,
        activation="gelu",
        norm=stack.blocks[0].eps,
    )
    return Architecture(
        encoder=replace(stack, embeddings=replace(stack.embeddings, width=narrow)),
        heads={
            "masked_lm": masked,
            "sequence_classification": Head("first", config.label_count(), dense=stack.width, activation="gelu"),
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
        "sequence_classification": (
            module("head.dense", "classifier.dense"),
            module("head.out", "classifier.out_proj"),
        ),
        "token_classification": (module("head.out", "classifier"),),
        "question_answering": (module("head.out", "qa_outputs"),),
    },
    prefixes=("electra.",),
    renamed=bert.OLD_NORMS,
    ignored=(bert.BUFFERS, r"discriminator_predictions\..*"),  # the latter of replaced words
)
