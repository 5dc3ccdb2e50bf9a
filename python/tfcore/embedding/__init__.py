"""Texts to vectors and scores: sentence embeddings, rerankers, one vector a token, as the checkpoints' files say."""

from .cross_encoder import CrossEncoder
from .encoder import SentenceEncoder
from .multi_vector import MultiVectorEncoder
from .precision import quantize_embeddings
from .report import EncodingInfo
from .similarity import maxsim

__all__ = [
    "CrossEncoder",
    "EncodingInfo",
    "MultiVectorEncoder",
    "SentenceEncoder",
    "maxsim",
    "quantize_embeddings",
]
