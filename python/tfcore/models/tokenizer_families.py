"""What Transformers' tokenizer classes know that a checkpoint's files need not say, as data.

A folder names its class in `tokenizer_class`; an old one only has the `model_type` of its model. From the class follow
the special tokens that the files leave out, the side of padding, and whether the model tells the texts of a pair apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .config import Config

SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NO_LIMIT = int(1e30)  # what Transformers writes for a model that states no length


class TokenizerFamily(NamedTuple):
    """One tokenizer class.

    Attributes
    ----------
    name : str
        The name of Transformers' class.
    special : mapping
        Its special tokens by name, used where neither the files say another nor the vocabulary lacks them.
    token_types : bool
        Whether its models take `token_type_ids`.
    padding_side : str
        "right", or "left" for text that is to be continued.
    model_max_length : int
        The longest row its models take.
    """

    name: str
    special: Mapping[str, str] = {}
    token_types: bool = False
    padding_side: str = "right"
    model_max_length: int = NO_LIMIT

    @property
    def input_names(self) -> list[str]:
        """What its models are called with."""
        return ["input_ids", *(["token_type_ids"] if self.token_types else []), "attention_mask"]


_BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_END = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_GEMMA = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}

BERT = TokenizerFamily("BertTokenizer", _BERT, token_types=True)
GENERIC = TokenizerFamily("PreTrainedTokenizerFast")
FAMILIES = {
    family.name: family
    for family in (
        BERT,
        BERT._replace(name="ElectraTokenizer"),
        TokenizerFamily("DistilBertTokenizer", _BERT),
        TokenizerFamily("MPNetTokenizer", _ROBERTA | {"unk_token": "[UNK]"}),
        TokenizerFamily("RobertaTokenizer", _ROBERTA),
        TokenizerFamily("BartTokenizer", _ROBERTA),
        TokenizerFamily("XLMRobertaTokenizer", _ROBERTA),
        TokenizerFamily("GPT2Tokenizer", _END),
        TokenizerFamily("GPTNeoXTokenizer", _END | {"pad_token": "<|padding|>"}),
        TokenizerFamily("Qwen2Tokenizer", dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")),
        TokenizerFamily(
            "LlamaTokenizer",
            {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
            padding_side="left",
        ),
        TokenizerFamily("GemmaTokenizer", _GEMMA, padding_side="left"),
        TokenizerFamily("T5Tokenizer", _T5),
        TokenizerFamily("MarianTokenizer", _T5, model_max_length=512),
        GENERIC,
        GENERIC._replace(name="TokenizersBackend"),
    )
}
_CLASS_OF_MODEL = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizer",
    "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "gpt_neox": "GPTNeoXTokenizer",
    "gemma3": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "bart": "BartTokenizer",
    "marian": "MarianTokenizer",
}
_STATED_IN_VAIN = {"mistral", "phi3", "modernbert"}  # Transformers, too, ignores the class their checkpoints name


def family_of(config: Config, backend: Any = None) -> TokenizerFamily:
    """The family a tokenizer is of: as its files say, or its model's type, or else as `backend` looks.

    >>> family_of(Config({"tokenizer_class": "RobertaTokenizerFast"}, "tokenizer_config.json")).special["mask_token"]
    '<mask>'
    """
    model_type = config.text("model_type", default="")
    if model_type in _STATED_IN_VAIN:
        return GENERIC
    stated = config.text("tokenizer_class", default="").removesuffix("Fast")
    if stated == "PreTrainedTokenizer" or _is_byte_level_llama(stated, backend):
        return GENERIC
    known = FAMILIES.get(stated) or FAMILIES.get(_CLASS_OF_MODEL.get(model_type, ""))
    return known or (BERT if type(getattr(backend, "model", None)).__name__ == "WordPiece" else GENERIC)


def _is_byte_level_llama(stated: str, backend: Any) -> bool:
    """Llama 3 and its kin name Llama's class, whose tokens are SentencePiece's, and have byte-level ones."""
    return stated == "LlamaTokenizer" and "ByteLevel" in repr(getattr(backend, "decoder", None))
