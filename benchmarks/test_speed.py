"""All cases: verified, timed beside their peers in turns, then tfcore alone for pytest-benchmark's record."""

from __future__ import annotations

import pytest
from tfcore.bench import CASES, harness

pytest.importorskip("pytest_benchmark")


@pytest.mark.filterwarnings("default")  # peers warn of their own future
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_speed(case, benchmark, session):
    benchmark.group = case.group
    contest = case.make()
    if benchmark.disabled:  # pytest --benchmark-disable: the results are verified all the same
        harness.verify(case.name, harness.prepare(contest.rivals, {}), contest)
    else:
        benchmark.extra_info.update(session.measure(case, contest))
    benchmark.pedantic(contest.rivals["tfcore"](), rounds=5, warmup_rounds=1)
