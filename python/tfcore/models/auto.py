"""The `Auto` classes: from a name to a model or a tokenizer, whatever its family."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from .device import CONFIG_SETTINGS, check_ways_to_hold
from .encoder_decoder import EncoderDecoderModel
from .families import find_family
from .hub import MODEL_FILES, TOKENIZER_FILES, Lookup, resolve
from .model import Model
from .pretrained import (
    CAUSAL_LM,
    MASKED_LM,
    QUESTION,
    SEQ2SEQ_LM,
    SEQUENCE,
    TOKEN,
    Pretrained,
    open_checkpoint,
)
from .tokenizer import Tokenizer
from .tokenizer_families import SPECIAL
from .tokenizer_files import open_tokenizer
from .writing import CausalLM, Seq2SeqLM, Writing

_SETTINGS = (
    *(*SPECIAL, "additional_special_tokens", "model_max_length", "padding_side", "truncation_side"),
    *("add_bos_token", "add_eos_token", "add_prefix_space", "legacy", "clean_up_tokenization_spaces"),
    *("do_lower_case", "strip_accents", "tokenize_chinese_chars"),
)


class AutoModel:
    """Opens pretrained models without their task's head. `AutoModel.from_pretrained(…)` is all there is to it."""

    task: ClassVar[str | None] = None

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        gguf_file: str | None = None,
        **settings: Any,
    ) -> Any:
        """The model of a checkpoint folder, hub name or GGUF file.

        >>> model = AutoModel.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> model([[101, 7592, 102]]).last_hidden_state.shape  # doctest: +SKIP
        (1, 3, 384)

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            A folder in Hugging Face's layout (`config.json`, `model.safetensors` or its shards), a `.gguf` file, a name
            in the local Hugging Face cache, or a name on the hub.
        revision : str, optional
            A branch, tag or commit of the hub's.
        cache_dir : str or path, optional
            Where the hub's files are kept, instead of the local Hugging Face cache.
        token : str or bool, optional
            Your token for the hub, instead of HF_TOKEN.
        local_files_only : bool
            Whether to look in the cache alone, without asking the hub.
        subfolder, gguf_file : str, optional
            Where in the folder or repository the checkpoint lies, and which GGUF file there it is.
        **settings
            `output_hidden_states`, `output_attentions`, `pad_token_id`, `bos_token_id`, `eos_token_id`, `id2label` and
            `label2id`, instead of the config's. `torch_dtype`, `device_map="cpu"` and the like are taken for the sake
            of code written for Transformers: models are float32 and on the CPU.

        Returns
        -------
        Model or EncoderDecoderModel
            Called as in Transformers: `model(**inputs)`; language models also have `generate`.

        Raises
        ------
        FileNotFoundError
            There is no such folder or name, or it lacks a file.
        TypeError
            An argument is of another kind, or none that there is.
        ValueError
            The config's `model_type` is not known (the message lists those that are) or has no such head, a config
            field or tensor is missing or wrong, a file lies about itself. The message names file and field or tensor.
        """
        check_ways_to_hold({name: value for name, value in settings.items() if name not in CONFIG_SETTINGS})
        source = Lookup(revision, cache_dir, token, local_files_only, subfolder, gguf_file)
        path = resolve(pretrained_model_name_or_path, MODEL_FILES, source)
        opened = config, _ = open_checkpoint(path)
        both = len(find_family(config).read(config).stacks()) > 1
        kinds: dict[str | None, type[Pretrained]] = {CAUSAL_LM: CausalLM, SEQ2SEQ_LM: Seq2SeqLM}
        model = kinds.get(cls.task, EncoderDecoderModel if both else Model)(path, cls.task, opened)
        for name, value in settings.items():
            if name not in CONFIG_SETTINGS or value is None:
                continue
            setattr(model.config, name, value)
            if name.endswith("token_id") and isinstance(model, Writing):
                setattr(model.generation_config, name, value)
        return model


class AutoModelForCausalLM(AutoModel):
    """Opens decoders that write text: `logits` (B, L, V), and `generate`."""

    task = CAUSAL_LM


class AutoModelForSeq2SeqLM(AutoModel):
    """Opens encoder-decoders that write text: `logits` (B, L, V), and `generate`."""

    task = SEQ2SEQ_LM


class AutoModelForMaskedLM(AutoModel):
    """Opens encoders that fill in masked words: `logits` (B, L, V)."""

    task = MASKED_LM


class AutoModelForSequenceClassification(AutoModel):
    """Opens classifiers of texts: `logits` (B, labels)."""

    task = SEQUENCE


class AutoModelForTokenClassification(AutoModel):
    """Opens classifiers of tokens: `logits` (B, L, labels)."""

    task = TOKEN


class AutoModelForQuestionAnswering(AutoModel):
    """Opens models that find answers in texts: `start_logits` and `end_logits` (B, L)."""

    task = QUESTION


class AutoTokenizer:
    """Opens pretrained tokenizers. `AutoTokenizer.from_pretrained(…)` is all there is to it."""

    @staticmethod
    def from_pretrained(
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
        gguf_file: str | None = None,
        use_fast: bool = True,
        trust_remote_code: bool = False,
        **settings: Any,
    ) -> Tokenizer:
        """The tokenizer of a checkpoint folder or hub name.

        >>> tokenizer = AutoTokenizer.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> tokenizer("Hello!", return_tensors="np").input_ids  # doctest: +SKIP
        array([[ 101, 7592,  999,  102]])

        Parameters
        ----------
        pretrained_model_name_or_path : str or path
            A folder, a `.gguf` file, or a name in the cache or on the hub. A folder has `tokenizer.json`, or the files
            of older checkpoints: `vocab.txt`; `vocab.json` and `merges.txt`; `spiece.model`, `sentencepiece.bpe.model`
            or `tokenizer.model`; `source.spm`, `target.spm` and `vocab.json` (which take `tfcore[sentencepiece]`).
        revision, cache_dir, token, local_files_only, subfolder, gguf_file
            How a name is looked up, as for `AutoModel`.
        use_fast, trust_remote_code : bool
            Taken for the sake of code written for Transformers; there is only the fast one, and no code of a checkpoint
            ever runs.
        **settings
            `padding_side`, `truncation_side`, `model_max_length`, `add_bos_token`, `add_eos_token` and special tokens
            (`pad_token="[PAD]"`), instead of the files'; `add_prefix_space`, `legacy`, `do_lower_case`,
            `strip_accents`, `tokenize_chinese_chars` and `clean_up_tokenization_spaces`.

        Raises
        ------
        FileNotFoundError
            There is no such folder or name, or it holds no tokenizer.
        TypeError
            An argument is of another kind, or none that there is.
        ValueError
            A file is broken; the message names it.
        """
        unknown = sorted(settings.keys() - set(_SETTINGS))
        if unknown:
            raise TypeError(f"unknown setting {unknown[0]!r}, expected one of {', '.join(_SETTINGS)}")
        source = Lookup(revision, cache_dir, token, local_files_only, subfolder, gguf_file)
        path = resolve(pretrained_model_name_or_path, TOKENIZER_FILES, source)
        return Tokenizer(*open_tokenizer(path, settings))
