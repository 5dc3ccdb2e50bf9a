"""The examples of the models' docstrings, which name a checkpoint: run offline, from a cache that holds it."""

import os
import subprocess
import sys

import pytest
from checkpoints import minilm

NAME = "sentence-transformers/all-MiniLM-L6-v2"
MODULES = [
    "models.auto",
    "models.chat_template",
    "models.batch_encoding",
    "models.checkpoint",
    "models.model",
    "models.text_stream",
    "models.tokenizer",
    "models.tokenizer_families",
    "embedding.encoder",
]
RUN = """
import doctest, importlib, sys
from pathlib import Path
from tfcore import AutoModel, AutoTokenizer

module = importlib.import_module("tfcore." + sys.argv[1])
names = {"folder": Path(sys.argv[2]), "tokenizer": AutoTokenizer.from_pretrained(sys.argv[2])}
runner = doctest.DocTestRunner()
for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=vars(module) | names):
    for example in test.examples:
        example.options.pop(doctest.SKIP, None)
    runner.run(test)
results = runner.summarize()
assert results.attempted, "no examples"
sys.exit(results.failed)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache as the hub's library lays it out, with MiniLM's files linked into it."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(minilm(), target_is_directory=True)
    return home


@pytest.mark.parametrize("module", MODULES)
def test_examples(home, module):
    done = subprocess.run(
        [sys.executable, "-c", RUN, module, str(minilm())],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
