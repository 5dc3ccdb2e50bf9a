"""How texts fall into words before byte-level BPE, by the names that GGUF files have for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Split(NamedTuple):
    """How a text falls into words: a pattern of them, none for GPT-2's; each digit by itself first or not.

    ignore_merges   a word that is a token is that one, whatever the merges say
    add_bos         texts begin with the beginning-of-text token unless the file says otherwise
    composed        texts are brought into Unicode's composed form (NFC) first
    """

    pattern: str = ""
    digits_apart: bool = False
    ignore_merges: bool = False
    add_bos: bool = False
    composed: bool = False

    def pre_tokenizer(self, add_prefix_space: bool = False) -> Any:
        """A text's words as bytes, for the `tokenizers` library."""
        from tokenizers import Regex, pre_tokenizers

        steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if self.digits_apart else []
        if self.pattern:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), "isolated"))
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=not self.pattern))
        return pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # punctuation, line ends, spaces
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_PATHS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # a slash stays with the punctuation before it

_LLAMA3 = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}"
_GPT4O = rf"{'|'.join(words + _CONTRACTIONS + '?' for words in _CASED)}|\p{{N}}{{1,3}}|{_PATHS}"
_GPT2, _CODE = Split(), Split(digits_apart=True)
SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "olmo", "jais", "roberta-bpe"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _CODE),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), Split(_LLAMA3, ignore_merges=True, add_bos=True)
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Split(_LLAMA3)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "megrez"), Split(rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}", composed=True)
    ),
    "tekken": Split(rf"{'|'.join(_CASED)}|\p{{N}}|{_PATHS}", ignore_merges=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4"), Split(_GPT4O)),
}
