"""Small checkpoints with sentence-transformers' files, the same in every run, and what that library makes of them.

`golden/make_embeddings.py` records its vectors and scores; the tests compare with those, and with the library itself
where it is installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from checkpoints import VOCABULARY, write_safetensors
from family_checkpoints import load, write_checkpoint

GOLDEN = Path(__file__).parent / "golden" / "embeddings.npz"
TEXTS = ["the two cut?", "", "a b c d e f g", "z", "cut the cut, the two cuts! a b c d e f g h i j k l m n o p q r s"]
PAIRS = [
    ("the two", "cut"),
    ("a", "b c d e f g h i j k l m n o p q r s t u v w x y z a b"),
    ("z", ""),
    ("", "the cuts"),
]
_LENGTH = 24


@dataclass(frozen=True)
class Case:
    """A checkpoint: a recorded model of a family, the modules behind it, and the fields of the files beside.

    Each of `modules` is a kind, its config's fields and the shapes of its tensors.
    """

    model: str = "bert.base"
    modules: tuple = (("Pooling", {"pooling_mode": "mean"}, {}),)
    options: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    length: int = _LENGTH


def pooled(mode: object, **fields: object) -> tuple:
    return ("Pooling", {"pooling_mode": mode, **fields}, {})


def dense(into: int, out: int, activation: str = "activation.Tanh", bias: bool = True, **fields: object) -> tuple:
    shapes = {"linear.weight": (out, into)}
    if bias:
        shapes["linear.bias"] = (out,)
    if fields.get("use_residual") and into != out:
        shapes["residual.weight"] = (out, into)
    config = {"in_features": into, "out_features": out, "bias": bias, **fields}
    return ("Dense", {**config, "activation_function": f"torch.nn.modules.{activation}"}, shapes)


_FAMILIES = {
    **{name: f"{name}.base" for name in ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet")},
    "modernbert": "modernbert.base",
    "qwen3": "qwen3.base",
    "gemma3": "gemma3.base",
    "llama": "llama.base",
    "t5": "t5-encoder.encoder",
    "flan-t5": "flan-t5.encoder",
}
_DECODERS = ("qwen3", "gemma3", "llama")
_PROMPTS = {"prompts": {"query": "a b ", "document": "two ", "other": "z "}, "default_prompt_name": "other"}
_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ["cls", "max", "weightedmean"])
_FUNCTIONS = ("activation.ReLU", "activation.GELU", "activation.SiLU", "activation.Sigmoid", "linear.Identity")


def width_of(model: str) -> int:
    config = load(model).config
    return int(config.get("hidden_size") or config.get("dim") or config["d_model"])


WIDTH = width_of("bert.base")
CASES = {
    **{name: Case(model, (pooled("lasttoken" if name in _DECODERS else "mean"),)) for name, model in _FAMILIES.items()},
    **{
        f"pooling-{'+'.join(mode) if isinstance(mode, list) else mode}-{'with' if prompt else 'without'}-prompt": Case(
            modules=(pooled(mode, include_prompt=prompt),), options=_PROMPTS
        )
        for mode in _MODES
        for prompt in (True, False)
    },
    **{
        name.lower().replace(".", "-"): Case(
            modules=(pooled("mean"), dense(WIDTH, 12, name, bias=name != "activation.ReLU"))
        )
        for name in _FUNCTIONS
    },
    "dense-norm-normalize": Case(
        modules=(
            pooled(["mean", "max"]),
            dense(2 * WIDTH, 20),
            ("LayerNorm", {"dimension": 20}, {"norm.weight": (20,), "norm.bias": (20,)}),
            ("Normalize", {}, {}),
        ),
        options={"similarity_fn_name": "dot"},
    ),
    "dense-residual": Case(
        modules=(pooled("cls"), dense(WIDTH, 12, use_residual=True), dense(12, 12, use_residual=True)),
        options={"similarity_fn_name": "euclidean"},
    ),
    "dense-of-tokens": Case(
        modules=(
            dense(WIDTH, 16, module_input_name="token_embeddings", module_output_name="token_embeddings"),
            ("Normalize", {"module_input_name": "token_embeddings"}, {}),
            pooled("mean"),
        ),
        options={"similarity_fn_name": "manhattan"},
    ),
    "truncated": Case(modules=(pooled("mean"), ("Normalize", {}, {})), options={"truncate_dim": 7}),
    "settings": Case(settings={"max_seq_length": 9, "do_lower_case": True}),
}
SCORED = {
    **{name: Case(f"{name}.sequence_classification", ()) for name in ("bert", "roberta", "distilbert", "electra")},
    **{name: Case(f"{name}.sequence_classification", ()) for name in ("mpnet", "modernbert", "qwen3")},
}
_CLASSIFIES = {
    "transformer_task": "sequence-classification",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}
RERANKERS = {
    "reranker": Case(modules=()),
    **{
        f"reranker-of-{name.lower()}": Case(
            modules=(),
            options={"model_type": "CrossEncoder", "activation_fn": f"torch.nn.modules.{kind}.{name}"},
            settings=_CLASSIFIES,
        )
        for name, kind in (("Identity", "linear"), ("Tanh", "activation"))
    },
}
_OF_TOKENS = (
    dense(WIDTH, 12, "linear.Identity", bias=False, module_input_name="token_embeddings"),
    ("MultiVectorMask", {"skiplist_words": ["!", "?", ",", "…"], "skiplist_tasks": ["document"]}, {}),
    ("Normalize", {"module_input_name": "token_embeddings"}, {}),
)
_PYLATE = {
    "model_type": "ColBERT",
    "query_prefix": "[unused0] ",
    "document_prefix": "the ",
    "query_length": 14,
    "document_length": 17,
    "skiplist_words": ["!", ",", "d"],
}


def _multi(strategy: str | None, attend: bool, model: str = "bert.base") -> Case:
    expansion = strategy and {"strategy": strategy, "attend": attend, "length": 12}
    lengths = {"document_length": 15} | ({} if strategy == "fixed" else {"query_length": 18})
    options = {"model_type": "MultiVectorEncoder", "prompts": {"query": "a ", "document": "two "}}
    return Case(model, _OF_TOKENS, options, {"query_expansion": expansion, **lengths})


MULTI = {
    "plain": _multi(None, False),
    "fixed-attended": _multi("fixed", True),
    "fixed": _multi("fixed", False),
    "min": _multi("min", False),
    "modernbert": _multi("fixed", False, "modernbert.base"),
    "pylate": Case("bert.base", _OF_TOKENS[:1], _PYLATE | {"attend_to_expansion_tokens": True}),
    "pylate-unattended": Case("bert.base", _OF_TOKENS[:1], _PYLATE),
    "pylate-unfilled": Case("bert.base", _OF_TOKENS[:1], _PYLATE | {"do_query_expansion": False}),
}


def write_case(folder: Path, case: Case, labels: int | None = None) -> Path:
    """The checkpoint's files. `labels` makes a classifier of BERT with so many."""
    if labels is None:
        write_checkpoint(folder, load(case.model))
    else:
        write_classifier(folder, labels)
    write_tokenizer(folder, case.length)
    entries = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    for place, (kind, config, shapes) in enumerate(case.modules, 1):
        entries.append({"type": f"sentence_transformers.models.{kind}", "path": f"{place}_{kind}"})
        write_module(folder / f"{place}_{kind}", config, shapes)
    entries = [{"idx": place, "name": str(place), **_class(entry)} for place, entry in enumerate(entries)]
    if case.modules or case.options:
        (folder / "modules.json").write_text(json.dumps(entries))
    if case.options:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(case.options))
    if case.settings:
        (folder / "sentence_bert_config.json").write_text(json.dumps(case.settings))
    return folder


def _class(entry: dict) -> dict:
    """Masks have only ever lived where they live today."""
    mask = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    return entry | ({"type": mask} if entry["type"].endswith("MultiVectorMask") else {})


def write_module(folder: Path, config: dict, shapes: dict) -> None:
    random = np.random.RandomState(len(shapes) + sum(map(sum, shapes.values())))
    folder.mkdir(parents=True, exist_ok=True)
    if "pooling_mode" in config:
        config = {"embedding_dimension": WIDTH, **config}
    (folder / "config.json").write_text(json.dumps(config))
    if shapes:
        write_safetensors(
            folder / "model.safetensors",
            {name: (0.3 * random.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()},
        )


def write_classifier(folder: Path, labels: int) -> None:
    """A BERT with a head of `labels`."""
    recording = load("bert.sequence_classification")
    config = {
        **recording.config,
        "num_labels": labels,
        "id2label": {str(n): f"LABEL_{n}" for n in range(labels)},
        "label2id": {f"LABEL_{n}": n for n in range(labels)},
    }
    shapes = {name: (labels, *s[1:]) if name.startswith("classifier") else s for name, s in recording.shapes.items()}
    write_checkpoint(folder, replace(recording, config=config, shapes=shapes))


def write_tokenizer(folder: Path, length: int) -> None:
    """WordPiece over the small vocabulary, as a `tokenizer.json` that any family takes."""
    words = [*VOCABULARY, "[unused0]"]
    special = [{"id": n, "content": words[n], "special": True} for n in range(5)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    pair = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    end = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [token | flags for token in special],
        "normalizer": {
            "type": "BertNormalizer",
            "lowercase": True,
            "strip_accents": None,
            "clean_text": True,
            "handle_chinese_chars": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*pair, end],
            "pair": [
                *pair,
                end,
                {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
            ],
            "special_tokens": {
                name: {"id": name, "ids": [words.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: n for n, word in enumerate(words)},
        },
    }
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length}
    config |= {f"{name}_token": token for name, token in names.items()}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
