"""Pretrained models and their tokenizers: checkpoint folders and hub names in, NumPy arrays out."""

from .auto import AutoModel
from .batch_encoding import BatchEncoding
from .encoder import EncoderModel
from .outputs import EncoderOutput, ModelOutput
from .text_stream import TextStream
from .tokenizer import AutoTokenizer, Tokenizer

__all__ = [
    "AutoModel",
    "AutoTokenizer",
    "BatchEncoding",
    "EncoderModel",
    "EncoderOutput",
    "ModelOutput",
    "TextStream",
    "Tokenizer",
]
