"""BART (Lewis et al. 2020): an encoder-decoder of post-norm blocks with learned positions from row 2 on."""

from ..architecture import Architecture, Block, Embeddings, HeadSpec, StackSpec
from ..config import Config
from ..family import Family, Part, Source, bias_only, module
from .common import activation, dense_and_out, head_size, layers, start_token

_BEFORE = 2  # rows of the tables of positions before that of position 0
_USUAL_LABELS = 3
_VARIANTS = {  # of the papers around it, as old configs name them; none of them came to be used
    "normalize_before": False,
    "add_final_layer_norm": False,
    "add_bias_logits": False,
    "is_decoder": False,
}


def describe(config: Config) -> Architecture:
    for field, value in {"normalize_embedding": True, "static_position_embeddings": False}.items():
        config.expect(field, value)
    words, width = config.positive_int("vocab_size"), config.positive_int("d_model")
    embeddings = Embeddings(
        vocabulary=words,
        width=width,
        scale=embedding_scale(config),
        positions=config.positive_int("max_position_embeddings", default=1024) + _BEFORE,
        position_offset=_BEFORE,
        norm=True,
    )
    return Architecture(
        encoder=stack(config, "encoder", embeddings),
        decoder=stack(config, "decoder", embeddings),
        heads={
            "seq2seq_lm": HeadSpec("all", words, tied=config.flag("tie_word_embeddings", default=True)),
            "sequence_classification": HeadSpec(
                "eos", config.label_count(_USUAL_LABELS), dense=width, activation="tanh"
            ),
            "question_answering": HeadSpec("all", 2),
        },
        start=start_token(config, words, default=2),
    )


def embedding_scale(config: Config) -> float:
    """What word embeddings are multiplied by: the root of their width, or 1."""
    return config.positive_int("d_model") ** 0.5 if config.flag("scale_embedding", default=False) else 1.0


def stack(config: Config, role: str, embeddings: Embeddings) -> StackSpec:
    """The encoder or the decoder, each with heads, layers and widths of its own."""
    for field, value in _VARIANTS.items():
        config.expect(field, value)
    heads = config.positive_int(f"{role}_attention_heads")
    block = Block(
        heads=heads,
        key_heads=heads,
        head_size=head_size(config, "d_model", f"{role}_attention_heads"),
        inner=config.positive_int(f"{role}_ffn_dim"),
        norm="layer",
        placement="post",
        eps=1e-5,
        activation=activation(config, "activation_function", "gelu"),
        causal=role == "decoder",
        cross=role == "decoder",
    )
    return StackSpec(embeddings.width, embeddings, (block,) * layers(config, f"{role}_layers"))


def part(role: str) -> Part:
    """The names of the encoder's or the decoder's tensors."""
    layer = f"{role}.layers.{{i}}"
    attentions = {"attention": "self_attn"} | ({"cross": "encoder_attn"} if role == "decoder" else {})
    projections = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    block = [
        module(f"{ours}.{name}", f"{layer}.{theirs}.{projection}")
        for ours, theirs in attentions.items()
        for name, projection in projections.items()
    ]
    block += [module(f"{ours}.after_norm", f"{layer}.{theirs}_layer_norm") for ours, theirs in attentions.items()]
    block += [
        module("feed_forward.up", f"{layer}.fc1"),
        module("feed_forward.down", f"{layer}.fc2"),
        module("feed_forward.after_norm", f"{layer}.final_layer_norm"),
    ]
    outside = (
        module("embeddings.word", "shared"),
        Source(f"{role}.embed_tokens", ("embeddings.word",), preferred=True),  # where each has its own
        module("embeddings.position", f"{role}.embed_positions"),
        module("embeddings.norm", f"{role}.layernorm_embedding"),
    )
    return Part(outside, tuple(block))


PARTS = {"encoder": part("encoder"), "decoder": part("decoder")}
SEQ2SEQ_HEAD: tuple[Source, ...] = (
    module("head.out", "lm_head"),
    bias_only("head.out", "final_logits_bias", row=True, optional=True),
)

BART = Family(
    model_type="bart",
    describe=describe,
    parts=PARTS,
    heads={
        "seq2seq_lm": SEQ2SEQ_HEAD,
        "sequence_classification": dense_and_out("classification_head"),
        "question_answering": (module("head.out", "qa_outputs"),),
    },
    prefixes=("model.",),
    ignored=(
        r"shared\.weight",  # one table under three names, or of no use beside two others
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"(encoder|decoder)\.version",  # of the first trainers' files
    ),
    aliases={
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
    },
    usual_labels=_USUAL_LABELS,
)
