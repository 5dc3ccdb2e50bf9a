"""From a name to a folder: a folder is itself; anything else is a name in the local cache or on the hub.

`huggingface_hub` does the work, so its environment counts: HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE, HF_TOKEN, and
HF_HUB_ETAG_TIMEOUT, the seconds that a silent hub is waited for. Only the files that are needed are fetched, and never
a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

from ..extras import extra

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
_REFUSED = (401, 403)
_NETWORK_LIBRARIES = ("httpx", "requests")  # what `huggingface_hub` has spoken through so far, httpx2 among them


@dataclass(frozen=True)
class Lookup:
    """Where names that are no folders are looked up, and how: Transformers' keywords of that.

    Attributes
    ----------
    revision : str, optional
        A branch, tag or commit of the hub's.
    cache_dir : str or path, optional
        The cache, instead of that of HF_HOME.
    token : str or bool, optional
        What the hub knows its reader by, instead of HF_TOKEN and of what a login saved; False for neither of them.
    local_files_only : bool
        Whether the cache alone is asked.
    subfolder : str
        Where in the folder or repository the checkpoint lies.
    gguf_file : str, optional
        The GGUF file there that is the checkpoint.
    """

    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    subfolder: str = ""
    gguf_file: str | None = None

    def __post_init__(self) -> None:
        for name, kinds, wanted in (
            ("revision", str | None, "a branch, tag or commit"),
            ("cache_dir", str | os.PathLike | None, "a folder"),
            ("token", str | bool | None, "a string or a bool"),
            ("local_files_only", bool, "a bool"),
            ("subfolder", str, "a string"),
            ("gguf_file", str | None, "a string"),
        ):
            if not isinstance(getattr(self, name), kinds):
                raise TypeError(f"{name} is {type(getattr(self, name)).__name__}, expected {wanted}")

    @property
    def inside(self) -> Path:
        """Where in its folder or repository a checkpoint lies."""
        return Path(self.subfolder, self.gguf_file or "")

    @property
    def cache(self) -> str:
        """The folder of the cache."""
        from huggingface_hub import constants

        return os.path.expanduser(self.cache_dir or constants.HF_HUB_CACHE)


def resolve(name: str | os.PathLike[str], files: Sequence[str], source: Lookup, owner: str | None = None) -> Path:
    """The folder (or GGUF file) that holds the checkpoint `name`, with `files` (patterns) in it as far as the
    checkpoint has them.

    Parameters
    ----------
    name : str or path
        A folder, a `.gguf` file, or a name such as "sentence-transformers/all-MiniLM-L6-v2": from the cache if the hub
        does not tell what it has or is not to be asked, else from the hub.
    files : sequence of str
        The patterns of what to fetch.
    source : Lookup
        Where and how the name is looked up.
    owner : str, optional
        Whose names are looked for first, where `name` has no owner.

    Raises
    ------
    FileNotFoundError
        There is neither such a folder nor such a name.
    ConnectionError
        The hub cannot be reached, and the cache does not hold the checkpoint.
    PermissionError
        The hub refuses the checkpoint, and the cache does not hold it; or the cache cannot be written to.
    OSError
        The hub answers with another error, and the cache does not hold the checkpoint; or the disk is full.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"name is {type(name).__name__}, expected a checkpoint's folder or hub name")
    if not os.fspath(name):
        raise ValueError("name is empty, expected a checkpoint's folder or hub name")
    folder = Path(os.path.expanduser(name))  # unlike Path's own, leaves the home of a user who is not there alone
    if source.inside != Path():
        return _inside(name, files, source)
    if os.path.isdir(folder) or (os.path.isfile(folder) and folder.suffix == GGUF):  # unlike Path's, for any length
        return folder
    if os.path.exists(folder):
        raise ValueError(f"{folder} is a file, expected a checkpoint's folder, a {GGUF} file or a hub name")
    if _is_path(os.fspath(name)):
        raise FileNotFoundError(f"{folder}: no such {'file' if folder.suffix == GGUF else 'folder'}")
    if owner and "/" not in os.fspath(name):
        with suppress(FileNotFoundError, ConnectionError, ValueError):
            return _fetch(f"{owner}/{os.fspath(name)}", files, source)
    return _fetch(os.fspath(name), files, source)


def _inside(name: str | os.PathLike[str], files: Sequence[str], source: Lookup) -> Path:
    parts = [source.inside] if source.gguf_file else [source.inside / file for file in files]
    whole = resolve(name, [part.as_posix() for part in parts], replace(source, subfolder="", gguf_file=None))
    found = whole / source.inside
    if not found.exists():
        raise FileNotFoundError(f"{os.fspath(name)} has no {'file' if source.gguf_file else 'folder'} {source.inside}")
    return found


def _is_path(name: str) -> bool:
    marked = name.startswith((".", "~")) or name.endswith(GGUF) or "\\" in name
    return marked or os.path.isabs(name) or name.count("/") > 1


def _fetch(name: str, files: Sequence[str], source: Lookup) -> Path:
    errors = extra("huggingface_hub.utils", "models", f"there is no folder {name!r}, and a look on the hub")
    try:
        return _from_hub_or_cache(name, files, source)
    except errors.HFValidationError:
        raise ValueError(f"{name!r} is neither a folder nor a hub name such as 'owner/model'") from None
    except Exception as error:
        raise _explained(error, name, source) from error


def _from_hub_or_cache(name: str, files: Sequence[str], source: Lookup) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download, utils

    errors: Any = utils

    def snapshot(only_cached: bool) -> Path:
        wanted: Any = {"revision": source.revision, "allow_patterns": list(files), "library_name": "tfcore"}
        wanted |= {"cache_dir": source.cache, "token": source.token, "local_files_only": only_cached}
        return Path(snapshot_download(name, **wanted))

    if source.local_files_only:
        return snapshot(only_cached=True)
    api = HfApi(library_name="tfcore", token=source.token)
    try:  # asked for first, since snapshot_download would wait for a silent hub for ever
        api.model_info(name, revision=source.revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (errors.HFValidationError, errors.RevisionNotFoundError):
        raise
    except Exception:
        with suppress(errors.LocalEntryNotFoundError):
            return snapshot(only_cached=True)
        raise
    return snapshot(only_cached=False)


def _explained(error: Exception, name: str, source: Lookup) -> Exception:
    """The built-in error that says why there is no checkpoint: the disk, the hub's answer or that it gave none."""
    from huggingface_hub import constants, utils

    errors: Any = utils
    if _is_of_the_disk(error):
        return _disk_error(error, source)
    unknown = isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError)
    if unknown and not isinstance(error, errors.GatedRepoError):
        at = f" at revision {source.revision!r}" if source.revision else ""
        return FileNotFoundError(
            f"there is no folder {name!r}, and the hub ({constants.ENDPOINT}) has no such name{at}, or it is private "
            f"(then set HF_TOKEN): it answers {_status(error)}"
        )
    return _missing_error(error, name, source)


def _missing_error(error: Exception, name: str, source: Lookup) -> OSError:
    from huggingface_hub import constants

    hub, status = f"the hub ({constants.ENDPOINT})", _status(error)
    missing = f"there is no folder {name!r}, the cache ({source.cache}) does not hold all of its files"
    reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if source.local_files_only:
        return FileNotFoundError(f"{missing}, and local_files_only is True: leave it out to fetch them")
    if constants.HF_HUB_OFFLINE:
        return FileNotFoundError(f"{missing}, and HF_HUB_OFFLINE is set: unset it to fetch them")
    if status in _REFUSED:
        return PermissionError(
            f"{missing}, and {hub} answers {status}: set HF_TOKEN to one that may read it ({reason})"
        )
    if status is not None:
        return OSError(f"{missing}, and {hub} answers {status}: try again later, or check HF_ENDPOINT ({reason})")
    if _is_of_the_network(error):
        return ConnectionError(f"{missing}, and {hub} does not answer: check the network and HF_ENDPOINT ({reason})")
    return OSError(f"{missing}, and they cannot be fetched from {hub}: check HF_ENDPOINT ({reason})")


def _disk_error(error: OSError, source: Lookup) -> OSError:
    cache = source.cache
    setting = "cache_dir" if source.cache_dir else "HF_HOME"
    said = f"{error.strerror} (in the cache, {cache}: set {setting} to a folder that can be written to and has room)"
    return OSError(error.errno, said, error.filename or cache)


def _is_of_the_disk(error: Exception) -> TypeGuard[OSError]:
    """Whether the operating system said so of a file: the libraries' own kinds of OSError have no number."""
    return (
        isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError | TimeoutError)
    )


def _is_of_the_network(error: Exception) -> bool:
    return any(
        isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith(_NETWORK_LIBRARIES)
        for cause in _causes(error)
    )


def _status(error: Exception) -> int | None:
    """What the hub answered, where it did."""
    answers = (getattr(cause, "response", None) for cause in _causes(error))
    return next((answer.status_code for answer in answers if answer is not None), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
