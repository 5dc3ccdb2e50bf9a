"""The families of checkpoints that are known, by the `model_type` of their `config.json`."""

from ..config import Config
from ..family import Family
from .bart import BART
from .bert import BERT
from .distilbert import DISTILBERT
from .electra import ELECTRA
from .gemma3 import GEMMA3
from .gpt2 import GPT2
from .gpt_neox import GPT_NEOX
from .llama import LLAMA
from .marian import MARIAN
from .mistral import MISTRAL
from .modernbert import MODERNBERT
from .mpnet import MPNET
from .phi3 import PHI3
from .qwen2 import QWEN2
from .qwen3 import QWEN3
from .roberta import ROBERTA, XLM_ROBERTA
from .t5 import T5

_ENCODERS = (BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, ELECTRA, MPNET, MODERNBERT)
_DECODERS = (GPT2, GPT_NEOX, LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA3, PHI3)
_BOTH = (T5, BART, MARIAN)

FAMILIES: dict[str, Family] = {family.model_type: family for family in (*_ENCODERS, *_DECODERS, *_BOTH)}


def find_family(config: Config) -> Family:
    """The family of `config`'s `model_type`.

    Raises
    ------
    ValueError
        The field is missing or names a family that is not known; the message lists those that are.
    """
    model_type = config.text("model_type")
    if model_type not in FAMILIES:
        raise ValueError(
            f"{config.path}: model_type {model_type!r} is not known, expected one of {', '.join(FAMILIES)}"
        )
    return FAMILIES[model_type]
