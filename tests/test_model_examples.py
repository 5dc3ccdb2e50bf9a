"""The docstrings' examples that name a checkpoint: run offline, from a cache and a folder that hold it."""

from pathlib import Path

import pytest
import tfcore
from checkpoints import minilm
from children import in_a_subprocess
from embedding_checkpoints import MULTI, RERANKERS, write_case
from gguf_files import smollm2

PACKAGE = Path(tfcore.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if "# doctest: +SKIP" in path.read_text(encoding="utf-8")
}
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TOKENIZER = f"from tfcore import AutoTokenizer; tokenizer = AutoTokenizer.from_pretrained({MINILM!r})"
WRITER = f"""
from threading import Thread
from tfcore import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (auto.from_pretrained({smollm2().name!r}) for auto in (AutoModelForCausalLM, AutoTokenizer))
"""
GIVEN = {  # what a module's examples take to be there already
    "tfcore.models.batch_encoding": TOKENIZER,
    "tfcore.models.streamers": WRITER,
    "tfcore.models.text_stream": TOKENIZER,
    "tfcore.models.tokenizer": TOKENIZER,
    "tfcore.models.writing": WRITER,
}
RUN = """
import doctest, importlib, os, sys

os.chdir({folder!r})
module = importlib.import_module({module!r})
given = {{}}
exec({given!r}, given)
runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=vars(module) | given):
    for example in test.examples:
        example.options.pop(doctest.SKIP, None)
    runner.run(test)
results = runner.summarize()
assert results.attempted, "no examples"
sys.exit(results.failed)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A cache as the hub's library lays it out; what it lacks of real weights has random ones."""
    home = tmp_path_factory.mktemp("home")
    keep(home, MINILM, minilm())
    keep(home, "cross-encoder/ms-marco-MiniLM-L6-v2", write_case(home / "reranker", RERANKERS["reranker"], labels=1))
    keep(home, "lightonai/GTE-ModernColBERT-v1", write_case(home / "multi", MULTI["pylate"]))
    return home


def keep(home, name, folder):
    repository = home / "hub" / f"models--{name.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(folder, target_is_directory=True)


def test_modules_are_found():
    assert set(GIVEN) < MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_examples(home, tmp_path, module):
    (tmp_path / smollm2().name).symlink_to(smollm2())
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(minilm(), target_is_directory=True)
    (tmp_path / "corpus.txt").write_text("A cat sits.\nA kitten rests.\nRust never sleeps.\n")
    code = RUN.format(folder=str(tmp_path), module=module, given=GIVEN.get(module, ""))
    in_a_subprocess(code, HF_HOME=str(home), HF_HUB_OFFLINE="1")
