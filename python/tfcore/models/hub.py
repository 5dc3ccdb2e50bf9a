"""From a name to a folder: a folder is itself; anything else is a name in the local cache or on the hub.

`huggingface_hub` does the work, so its environment counts: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN. Only the
files that are needed are fetched, and never a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GGUF = ".gguf"
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
TOKENIZER_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "source.spm",
    "target.spm",
    "target_vocab.json",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
SENTENCE_FILES = (
    *MODEL_FILES,
    *TOKENIZER_FILES,
    *(f"0_Transformer/{file}" for file in (*MODEL_FILES, *TOKENIZER_FILES, "sentence_*_config.json")),
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_*_config.json",
    "[0-9]*_*/config.json",  # pooling and the like, one folder a module
    "[0-9]*_*/model.safetensors",
    "artifact.metadata",  # of ColBERT's own checkpoints
)


def resolve(name: str | os.PathLike[str], files: Sequence[str], *, revision: str | None = None) -> Path:
    """The folder (or GGUF file) that holds the checkpoint `name`, with `files` (patterns) in it as far as the
    checkpoint has them.

    Parameters
    ----------
    name : str or path
        A folder, a `.gguf` file, or a name such as "sentence-transformers/all-MiniLM-L6-v2": from the cache if the hub
        cannot be reached or HF_HUB_OFFLINE=1, else from the hub.
    files : sequence of str
        The patterns of what to fetch.
    revision : str, optional
        A branch, tag or commit of the hub's.

    Raises
    ------
    FileNotFoundError
        There is neither such a folder nor such a name.
    ConnectionError
        The hub cannot be reached, and the cache does not hold the checkpoint.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"name is {type(name).__name__}, expected a checkpoint's folder or hub name")
    if not os.fspath(name):
        raise ValueError("name is empty, expected a checkpoint's folder or hub name")
    folder = Path(name).expanduser()
    if folder.is_dir() or (folder.is_file() and folder.suffix == GGUF):
        return folder
    if folder.exists():
        raise ValueError(f"{folder} is a file, expected a checkpoint's folder, a {GGUF} file or a hub name")
    if _is_path(os.fspath(name)):
        raise FileNotFoundError(f"{folder}: no such {'file' if folder.suffix == GGUF else 'folder'}")
    return _fetch(os.fspath(name), files, revision)


def _is_path(name: str) -> bool:
    marked = name.startswith((".", "~")) or name.endswith(GGUF) or "\\" in name
    return marked or os.path.isabs(name) or name.count("/") > 1


def _fetch(name: str, files: Sequence[str], revision: str | None) -> Path:
    try:
        from huggingface_hub import constants, snapshot_download, utils
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'there is no folder {name!r}, and to look on the hub takes: pip install "tfcore[models]"', name=error.name
        ) from None
    errors: Any = utils  # where every version has them
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files), library_name="tfcore"))
    except errors.HFValidationError:
        raise ValueError(f"{name!r} is neither a folder nor a hub name such as 'owner/model'") from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        at = f" at revision {revision!r}" if revision else ""
        raise FileNotFoundError(
            f"there is no folder {name!r}, and the hub ({constants.ENDPOINT}) has no such name{at}, or it is private "
            "(then set HF_TOKEN)"
        ) from None
    except Exception as error:  # the hub's library has changed its network stack, and with it its errors, twice
        cache = f"there is no folder {name!r}, the cache ({constants.HF_HUB_CACHE}) does not hold that name"
        if constants.HF_HUB_OFFLINE:
            raise FileNotFoundError(f"{cache}, and HF_HUB_OFFLINE is set: unset it to fetch the files") from None
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ConnectionError(f"{cache}, and the hub ({constants.ENDPOINT}) does not answer: {reason}") from error
