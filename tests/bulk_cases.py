"""Corpora, jobs and commands for the tests of `tfcore embed --input`."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tfcore import SentenceEncoder
from tfcore.bulk import Corpus, Job, Recipe
from tfcore.bulk.recipe import checkpoint_fingerprint

WORDS = ["the", "two", "cut", "tus", "a", "b!", "c?", "naïve", "東京"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 20 words, all different."""
    words = random.Random(seed)
    return [f"{n} " + " ".join(words.choices(WORDS, k=words.randint(1, 20))) for n in range(count)]


def encoded(model: Path, texts: list[str], **options) -> np.ndarray:
    """The vectors (n, dim) by one call of the encoder, which may warn that it cuts texts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return SentenceEncoder(model).encode(texts, **options)


def write_corpus(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def write_json(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def job(corpus: Path, output: Path, model: Path, **settings) -> Job:
    """A job of small parts, for which a model that is open already is not opened again."""
    recipe = Recipe(str(model), **settings.pop("options", {}), checkpoint=checkpoint_fingerprint(model))
    return Job(Corpus(str(corpus)), output, recipe, **{"part_rows": 16, **settings})


def command(*arguments: object, model: Path | None = None) -> list[str]:
    chosen = [] if model is None else ["--model", str(model)]
    return [sys.executable, "-m", "tfcore", "embed", *chosen, *map(str, arguments)]


def run(*arguments: object, model: Path | None = None, stdin: bytes = b"", **settings) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(*arguments, model=model),
        input=stdin,
        capture_output=True,
        timeout=240,
        **{"env": {**os.environ, "PYTHONIOENCODING": "utf-8"}, **settings},
    )


def left(folder: Path) -> list[str]:
    """The names in a folder, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


def wait_for(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """What the condition gives as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.002)
    return found
