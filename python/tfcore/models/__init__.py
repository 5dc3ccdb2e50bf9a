"""Pretrained models and their tokenizers: checkpoint folders and hub names in, NumPy arrays out."""

from .auto import AutoModel
from .encoder import EncoderModel
from .outputs import EncoderOutput, ModelOutput
from .tokenizer import AutoTokenizer, BatchEncoding, Tokenizer

__all__ = ["AutoModel", "AutoTokenizer", "BatchEncoding", "EncoderModel", "EncoderOutput", "ModelOutput", "Tokenizer"]
