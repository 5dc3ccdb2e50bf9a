"""Records variants of encoders that checkpoints on the hub have, beside those of make_families.py.

Run with torch and transformers installed:

    python tests/golden/make_encoder_variants.py
"""

from __future__ import annotations

import warnings

import torch
import transformers
from make_families import FOLDER, ROBERTA, SMALL, VOCABULARY, record, save

DISTILBERT = {
    "vocab_size": VOCABULARY,
    "dim": 24,
    "n_layers": 1,
    "n_heads": 3,
    "hidden_dim": 20,
    "max_position_embeddings": 32,
}
MODERNBERT = SMALL | {"num_hidden_layers": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VARIANTS = {  # name → model_type, fields, heads
    "roberta-padding-at-3": (
        "roberta",
        ROBERTA | {"pad_token_id": 3, "type_vocab_size": 2, "hidden_act": "relu", "layer_norm_eps": 1e-5},
        ("base", "sequence_classification"),
    ),
    "roberta-untied": ("roberta", ROBERTA | {"tie_word_embeddings": False, "hidden_act": "silu"}, ("masked_lm",)),
    "mpnet-untied": (
        "mpnet",
        {**SMALL, "max_position_embeddings": 48, "pad_token_id": 1, "tie_word_embeddings": False},
        ("masked_lm",),
    ),
    "electra-wide": (
        "electra",
        SMALL | {"embedding_size": 32, "hidden_act": "gelu_new", "pad_token_id": 0},
        ("masked_lm",),
    ),
    "distilbert-relu": (
        "distilbert",
        DISTILBERT | {"activation": "relu", "sinusoidal_pos_embds": True},
        ("masked_lm", "sequence_classification"),
    ),
    "modernbert-silu": (
        "modernbert",
        MODERNBERT
        | {
            "local_attention": 5,
            "global_attn_every_n_layers": 2,
            "hidden_activation": "silu",
            "classifier_activation": "relu",
            "cls_token_id": 1,
            "sep_token_id": 2,
            "norm_eps": 1e-3,
            "tie_word_embeddings": False,
        },
        ("masked_lm", "token_classification"),
    ),
}


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    found = [record(name, kind, fields, head) for name, (kind, fields, heads) in VARIANTS.items() for head in heads]
    save(FOLDER / "encoder_variants.npz", [recording for recording in found if recording is not None])


if __name__ == "__main__":
    main()
