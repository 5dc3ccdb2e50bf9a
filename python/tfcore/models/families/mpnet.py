"""MPNet (Song et al. 2020): RoBERTa without token types, with T5's relative positions beside the learned ones."""

from dataclasses import replace

from ..architecture import Architecture, RelativeBuckets
from ..config import Config
from ..family import Family, Part, module
from . import bert, roberta

_PADDING = 1  # whatever the config says
_BUCKETS = 32


def describe(config: Config) -> Architecture:
    config.expect("relative_attention_num_buckets", _BUCKETS)
    plain = roberta.skip_padding(config, bert.encoder(config), _PADDING)
    stack = replace(
        plain,
        embeddings=replace(plain.embeddings, token_types=0),
        blocks=tuple(replace(block, relative=True) for block in plain.blocks),
        relative=RelativeBuckets(_BUCKETS, max_distance=128, bidirectional=True),
    )
    return Architecture(encoder=stack, heads=roberta.heads(config, stack), pooler=True)


_ATTENTION = "encoder.layer.{i}.attention"

MPNET = Family(
    model_type="mpnet",
    describe=describe,
    parts={
        "encoder": Part(
            outside=(
                *bert.EMBEDDINGS,
                roberta.WORDS_AGAIN,
                module("relative", "encoder.relative_attention_bias"),
            ),
            block=(
                module("attention.query", f"{_ATTENTION}.attn.q"),
                module("attention.key", f"{_ATTENTION}.attn.k"),
                module("attention.value", f"{_ATTENTION}.attn.v"),
                module("attention.output", f"{_ATTENTION}.attn.o"),
                module("attention.after_norm", f"{_ATTENTION}.LayerNorm"),
                *bert.FEED_FORWARD,
            ),
        )
    },
    heads=roberta.HEADS,
    pooler="pooler.dense",
    prefixes=("mpnet.",),
    renamed=bert.OLD_NORMS,
    ignored=(bert.BUFFERS,),
)
