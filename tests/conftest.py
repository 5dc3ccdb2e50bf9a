"""Every instruction set of this machine and several thread counts, as fixtures."""

from __future__ import annotations

import numpy as np
import pytest
import tfcore
from isas import ISAS

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
