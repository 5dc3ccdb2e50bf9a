"""T5 and Flan-T5 (Raffel et al. 2020): relative positions, RMS norms before, no biases. Also its encoder alone."""

import numpy as np

from ...relative import relative_buckets
from ..architecture import NO_BIAS, Architecture, Block, Embeddings, HeadSpec, RelativeBuckets, StackSpec
from ..config import Config
from ..family import Family, Part, Source, module
from .common import CLASSIFIERS, activation, dense_and_out, layers, start_token

_ENCODERS = {"T5EncoderModel", "T5ForTokenClassification"}  # the classes whose checkpoints have no decoder
_MOST_BUCKETS = 1 << 20
_GATED = {"gated-gelu": "gelu_new"}  # the paper's name of a gated layer → its activation


def describe(config: Config) -> Architecture:
    words, width = config.positive_int("vocab_size"), config.positive_int("d_model")
    count = layers(config, "num_layers")
    encoder = _stack(config, words, width, count, decoder=False)
    if _ENCODERS & set(config.texts("architectures")):
        return Architecture(encoder=encoder, heads={"token_classification": HeadSpec("all", config.label_count())})
    scaled = config.get("scale_decoder_outputs", config.flag("tie_word_embeddings", default=True))
    return Architecture(
        encoder=encoder,
        decoder=_stack(config, words, width, layers(config, "num_decoder_layers", count), decoder=True),
        heads={
            "seq2seq_lm": HeadSpec("all", words, tied=True, bias=False, scale=width**-0.5 if scaled else 1.0),
            "sequence_classification": HeadSpec("eos", config.label_count(), dense=width, activation="tanh"),
            "question_answering": HeadSpec("all", 2),
        },
        start=start_token(config, words, default=0),
    )


def _stack(config: Config, words: int, width: int, count: int, *, decoder: bool) -> StackSpec:
    heads = config.positive_int("num_heads")
    projection = config.text("feed_forward_proj", default="relu")
    gated = projection.startswith("gated-")
    name = _GATED.get(projection, projection.removeprefix("gated-"))
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=config.positive_int("d_kv"),
        inner=config.positive_int("d_ff"),
        norm="rms",
        placement="pre",
        eps=config.positive_number("layer_norm_epsilon", default=1e-6),
        activation=activation(config, "dense_act_fn", name),
        gated=gated,
        biases=NO_BIAS,
        scale=1.0,
        causal=decoder,
        relative=True,
        cross=decoder,
    )
    embeddings, relative = Embeddings(words, width), _relative(config, decoder=decoder)
    return StackSpec(width, embeddings, (block,) * count, final_norm=True, relative=relative)


def _relative(config: Config, *, decoder: bool) -> RelativeBuckets:
    buckets = config.positive_int("relative_attention_num_buckets", default=32)
    farthest = config.positive_int("relative_attention_max_distance", default=128)
    fields = "fields 'relative_attention_num_buckets' and 'relative_attention_max_distance'"
    if buckets > _MOST_BUCKETS:
        raise ValueError(f"{config.path}: {fields}: {buckets} buckets, expected at most {_MOST_BUCKETS}")
    try:
        relative_buckets(np.zeros(1, np.int64), buckets, farthest, bidirectional=not decoder)
    except ValueError as error:
        raise ValueError(f"{config.path}: {fields}: {error}") from None
    return RelativeBuckets(buckets, farthest, bidirectional=not decoder)


def _part(role: str) -> Part:
    layer = f"{role}.block.{{i}}.layer"
    last = 2 if role == "decoder" else 1
    attentions = [("attention", 0, "SelfAttention")]
    if role == "decoder":
        attentions.append(("cross", 1, "EncDecAttention"))
    block = [
        module(f"{ours}.{name}", f"{layer}.{number}.{theirs}.{name[0]}")
        for ours, number, theirs in attentions
        for name in ("query", "key", "value", "output")
    ]
    block += [module(f"{ours}.norm", f"{layer}.{number}.layer_norm") for ours, number, _ in attentions]
    dense = f"{layer}.{last}.DenseReluDense"
    block += [
        module("feed_forward.up", f"{dense}.wi"),
        module("feed_forward.gate", f"{dense}.wi_0"),
        module("feed_forward.up", f"{dense}.wi_1"),
        module("feed_forward.down", f"{dense}.wo"),
        module("feed_forward.norm", f"{layer}.{last}.layer_norm"),
    ]
    outside = (
        module("embeddings.word", "shared"),
        Source(f"{role}.embed_tokens", ("embeddings.word",), preferred=True),  # where each has its own
        module("relative", f"{role}.block.0.layer.0.SelfAttention.relative_attention_bias"),
        module("final_norm", f"{role}.final_layer_norm"),
    )
    return Part(outside, tuple(block))


T5 = Family(
    model_type="t5",
    describe=describe,
    parts={"encoder": _part("encoder"), "decoder": _part("decoder")},
    heads={
        "seq2seq_lm": (module("head.out", "lm_head"),),
        "sequence_classification": dense_and_out("classification_head"),
        **CLASSIFIERS,
    },
    prefixes=("transformer.",),
    ignored=(
        r"shared\.weight",  # one table under three names, or of no use beside two others
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",  # never used, often saved
    ),
    aliases={
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "head_dim": "d_kv",
    },
)
