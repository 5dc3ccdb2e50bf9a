"""Collects the results of a run and prints them as one table at its end."""

from __future__ import annotations

import pytest
from tfcore.bench import FULL, machine, report

RESULTS = pytest.StashKey[list]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


@pytest.fixture
def results(request: pytest.FixtureRequest) -> list:
    """Where a benchmark puts what `tfcore.bench.measure` returned."""
    return request.config.stash[RESULTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    done = terminalreporter.config.stash[RESULTS]
    if done:
        with machine.same_threads():
            about = machine.describe(done)
        whole = about | {"protocol": vars(FULL), "cases": done, "left_out": {}, "complete": True}
        terminalreporter.section("tfcore and its peers, interleaved")
        terminalreporter.write_line(report.text(whole))
