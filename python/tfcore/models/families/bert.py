"""BERT: learned positions, token types, post-norm blocks. Also MiniLM, BGE, E5, GTE and all that say "bert"."""

from ..family import Family, Tensor, linear, norm

_LAYER = "encoder.layer.{i}"

BERT = Family(
    model_type="bert",
    prefix="bert.",
    sizes={
        "V": "vocab_size",
        "P": "max_position_embeddings",
        "Y": "type_vocab_size",
        "C": "hidden_size",
        "F": "intermediate_size",
    },
    layers="num_hidden_layers",
    heads="num_attention_heads",
    eps="layer_norm_eps",
    activation="hidden_act",
    defaults={"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    expected={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    embeddings={
        "word": Tensor("embeddings.word_embeddings.weight", "VC"),
        "position": Tensor("embeddings.position_embeddings.weight", "PC"),
        "token_type": Tensor("embeddings.token_type_embeddings.weight", "YC"),
        **norm("norm", "embeddings.LayerNorm"),
    },
    layer={
        **linear("query", f"{_LAYER}.attention.self.query", "CC"),
        **linear("key", f"{_LAYER}.attention.self.key", "CC"),
        **linear("value", f"{_LAYER}.attention.self.value", "CC"),
        **linear("output", f"{_LAYER}.attention.output.dense", "CC"),
        **norm("attention_norm", f"{_LAYER}.attention.output.LayerNorm"),
        **linear("intermediate", f"{_LAYER}.intermediate.dense", "FC"),
        **linear("down", f"{_LAYER}.output.dense", "CF"),
        **norm("norm", f"{_LAYER}.output.LayerNorm"),
    },
    pooler=linear("pooler", "pooler.dense", "CC"),
    ignored=(
        r"embeddings\.(position_ids|token_type_ids)",  # buffers that old versions saved
        r"cls\..*",  # masked language modelling, next sentence
        r"classifier\..*",  # sequences, tokens, multiple choice
        r"qa_outputs\..*",  # question answering
    ),
)
