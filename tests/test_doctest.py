"""The examples in the docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
import tfcore
from tfcore import _core, reference

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(tfcore.__path__, "tfcore.")
    if not module.name.rpartition(".")[2].startswith("_")
)


@pytest.mark.parametrize("name", ["tfcore", *MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    results = doctest.testmod(module, verbose=False)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name} failed (see above)"


@pytest.mark.parametrize("module", ["tfcore.ops", "tfcore.reference", "tfcore.drop_in", "tfcore.nn"])
def test_every_operator_has_an_example(module):
    module = importlib.import_module(module)
    for name in module.__all__:
        text = inspect.getdoc(getattr(module, name)) or ""
        assert ">>>" in text, f"{module.__name__}.{name} has no example"


def test_compiled_examples():
    """doctest does not look into compiled modules by itself."""
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for test in finder.find(_core.PackedLinear, "PackedLinear", globs={"np": reference.np, "tfcore": tfcore}):
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
