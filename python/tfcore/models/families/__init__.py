"""The families of checkpoints that are known, by the `model_type` of their `config.json`."""

from ..config import Config
from ..family import Family
from .bert import BERT
from .distilbert import DISTILBERT
from .electra import ELECTRA
from .llama import LLAMA
from .modernbert import MODERNBERT
from .mpnet import MPNET
from .roberta import ROBERTA, XLM_ROBERTA
from .t5 import T5

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, ELECTRA, MPNET, MODERNBERT, LLAMA, T5)
}


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
