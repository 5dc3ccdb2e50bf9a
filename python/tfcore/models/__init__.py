"""Pretrained models and their tokenizers: checkpoint folders and hub names in, NumPy arrays out."""

from .auto import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from .encoder_decoder import EncoderDecoderModel
from .model import Model
from .outputs import ModelOutput
from .tokenizer import AutoTokenizer, BatchEncoding, Tokenizer

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
    "Tokenizer",
]
