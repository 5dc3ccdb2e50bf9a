"""tfcore: transformers for NumPy, at the speed of the machine.

    import tfcore
    y = tfcore.scaled_dot_product_attention(query, key, value, is_causal=True)

The operators need NumPy and nothing else. Models, tokenizers and sentence embeddings come with `tfcore[models]` and are
imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np  # first, for Ctrl-C while the core imports it would be an ImportError  # noqa: F401

try:
    from . import _core
except ImportError as error:
    if getattr(error, "name", None) == "tfcore._core":
        error.msg += "; the extension is not built: install tfcore with pip instead of importing its source folder"
    raise

from .ops import (
    PackedLinear,
    alibi_slopes,
    attention_varlen,
    feed_forward,
    gelu,
    layer_norm,
    linear,
    log_softmax,
    matmul,
    multi_head_attention,
    positional_encoding,
    relu,
    rms_norm,
    rotary_embedding,
    scaled_dot_product_attention,
    self_attention,
    silu,
    softmax,
)
from .runtime import (
    available_isas,
    get_num_threads,
    isa,
    num_threads,
    set_num_threads,
    show_config,
    use_isa,
)

if TYPE_CHECKING:
    from . import bench as bench
    from . import bulk as bulk
    from . import drop_in as drop_in
    from . import embedding as embedding
    from . import generation as generation
    from . import models as models
    from . import nn as nn
    from . import reference as reference
    from .embedding import CrossEncoder, MultiVectorEncoder, SentenceEncoder
    from .generation import GenerationConfig
    from .models import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForMaskedLM,
        AutoModelForQuestionAnswering,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
        AutoTokenizer,
        TextIteratorStreamer,
        TextStreamer,
    )

__version__: str = _core.__version__

# Imported when first asked for: they need tfcore[models].
_LATER = {
    "AutoModel": "models",
    "AutoModelForCausalLM": "models",
    "AutoModelForMaskedLM": "models",
    "AutoModelForQuestionAnswering": "models",
    "AutoModelForSeq2SeqLM": "models",
    "AutoModelForSequenceClassification": "models",
    "AutoModelForTokenClassification": "models",
    "AutoTokenizer": "models",
    "CrossEncoder": "embedding",
    "GenerationConfig": "generation",
    "MultiVectorEncoder": "embedding",
    "SentenceEncoder": "embedding",
    "TextIteratorStreamer": "models",
    "TextStreamer": "models",
    "set_seed": "generation",
}

__all__ = [
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "CrossEncoder",
    "GenerationConfig",
    "MultiVectorEncoder",
    "PackedLinear",
    "SentenceEncoder",
    "TextIteratorStreamer",
    "TextStreamer",
    "alibi_slopes",
    "attention_varlen",
    "available_isas",
    "feed_forward",
    "gelu",
    "get_num_threads",
    "isa",
    "layer_norm",
    "linear",
    "log_softmax",
    "matmul",
    "multi_head_attention",
    "num_threads",
    "positional_encoding",
    "relu",
    "rms_norm",
    "rotary_embedding",
    "scaled_dot_product_attention",
    "self_attention",
    "set_num_threads",
    "set_seed",
    "show_config",
    "silu",
    "softmax",
    "use_isa",
]


_SUBMODULES = ("bench", "bulk", "drop_in", "embedding", "generation", "models", "nn", "reference")

if not TYPE_CHECKING:  # to a type checker, any name would be one of ours

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name in _LATER:
            return getattr(import_module(f".{_LATER[name]}", __name__), name)
        if name in _SUBMODULES:
            return import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBMODULES, "__version__", "runtime"})
