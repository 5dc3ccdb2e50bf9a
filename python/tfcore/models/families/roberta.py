"""RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020): BERT, with positions that skip padding.

Rows of the table of positions up to the padding token's id are spare; position 0 is the next one.
"""

from dataclasses import replace

from ..architecture import Architecture, HeadSpec, StackSpec
from ..config import Config
from ..family import Family, Part, bias_only, module
from . import bert
from .common import CLASSIFIERS, classifiers, dense_and_out, masked_lm


def describe(config: Config) -> Architecture:
    stack = skip_padding(config, bert.encoder(config), config.token_id("pad_token_id", default=1))
    return Architecture(encoder=stack, heads=heads(config, stack), pooler=True)


def skip_padding(config: Config, stack: StackSpec, padding: int) -> StackSpec:
    """The stack with positions that leave out the padding token."""
    rows = stack.embeddings.positions
    if padding + 1 >= rows:
        raise ValueError(
            f"{config.path}: field 'max_position_embeddings' is {rows}, expected more than {padding + 1}, "
            "where positions start: after the padding token's id"
        )
    return replace(stack, embeddings=replace(stack.embeddings, position_offset=padding + 1, padding=padding))


def heads(config: Config, stack: StackSpec) -> dict[str, HeadSpec]:
    """The heads, with activations of their own whatever the blocks have."""
    return {
        "masked_lm": masked_lm(config, stack, "gelu"),
        "sequence_classification": HeadSpec("first", config.label_count(), dense=stack.width, activation="tanh"),
        **classifiers(config),
    }


WORDS_AGAIN = module("embeddings.word", "lm_head.decoder")  # where a tied table was saved under this name alone
HEADS = {
    "masked_lm": (
        module("head.dense", "lm_head.dense"),
        module("head.norm", "lm_head.layer_norm"),
        module("head.out", "lm_head.decoder"),
        bias_only("head.out", "lm_head.bias"),
    ),
    "sequence_classification": dense_and_out("classifier"),
    **CLASSIFIERS,
}

ROBERTA = Family(
    model_type="roberta",
    describe=describe,
    parts={"encoder": Part(outside=(*bert.EMBEDDINGS, WORDS_AGAIN), block=bert.BLOCK)},
    heads=HEADS,
    pooler="pooler.dense",
    prefixes=("roberta.",),
    renamed=bert.OLD_NORMS,
    ignored=(bert.BUFFERS,),
)
XLM_ROBERTA = replace(ROBERTA, model_type="xlm-roberta")
