"""Gathers a run's results, its limits measured before and after, and prints them as one table at its end."""

from __future__ import annotations

import pytest
from tfcore.bench import Session, report

SESSION = pytest.StashKey[Session]()


@pytest.fixture(scope="session")
def session(request: pytest.FixtureRequest) -> Session:
    """The run of all cases that are collected."""
    cases = [item.callspec.params["case"] for item in request.session.items]
    return request.config.stash.setdefault(SESSION, Session(cases))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = terminalreporter.config.stash.get(SESSION, None)
    results = session.results() if session else {"cases": []}
    if results["cases"]:
        terminalreporter.section("tfcore and its peers, interleaved")
        terminalreporter.write_line(report.text(results, targets=True))
