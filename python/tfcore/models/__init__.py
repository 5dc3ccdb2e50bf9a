"""Pretrained models and their tokenizers: checkpoint folders, hub names and GGUF files in, NumPy arrays out."""

from .auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from .batch_encoding import BatchEncoding
from .encoder_decoder import EncoderDecoderModel
from .model import Model
from .outputs import ModelOutput
from .streamers import TextIteratorStreamer, TextStreamer
from .text_stream import TextStream
from .tokenizer import Tokenizer

__all__ = [
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForMaskedLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "BatchEncoding",
    "EncoderDecoderModel",
    "Model",
    "ModelOutput",
    "TextIteratorStreamer",
    "TextStream",
    "TextStreamer",
    "Tokenizer",
]
