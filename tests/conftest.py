"""Fixtures of many tests: instruction sets and thread counts, random numbers, a model's folder, tokenizers' folders."""

from __future__ import annotations

import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tfcore
from checkpoints import write_bert
from isas import ISAS

ARCHIVE = Path(__file__).parent / "golden" / "tokenizers.zip"
# A shell has what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

MACHINES = [(isa, 2) for isa in ISAS] + [(ISAS[0], 1), (ISAS[0], 5)]


@pytest.fixture(params=ISAS)
def isa(request):
    """Each instruction set in turn."""
    with tfcore.use_isa(request.param):
        yield request.param


@pytest.fixture(params=MACHINES, ids=lambda machine: f"{machine[0]}-{machine[1]}threads")
def machine(request):
    """Each instruction set with two threads, and the best one also with 1 and 5."""
    isa, threads = request.param
    with tfcore.use_isa(isa), tfcore.num_threads(threads):
        yield request.param


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name and on nothing else, so that a failure can be run again."""
    return np.random.default_rng([ord(c) for c in request.node.name])


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny encoder with random weights."""
    return write_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder with a folder for each recorded tokenizer."""
    path = tmp_path_factory.mktemp("tokenizers")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(path)
    return path
