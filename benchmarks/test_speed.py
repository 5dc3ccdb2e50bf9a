"""Every case of `tfcore bench`: verified, timed beside its peers in turns, then alone for pytest-benchmark's record."""

from __future__ import annotations

import pytest
from tfcore.bench import CASES, FULL, harness, machine

pytest.importorskip("pytest_benchmark")


@pytest.mark.filterwarnings("default")  # peers warn of their own future
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_speed(case, benchmark, results):
    benchmark.group = case.group
    contest = case.make()
    if benchmark.disabled:  # pytest --benchmark-disable: the results are verified all the same
        harness.verify(case.name, harness.prepare(contest.rivals, {}), contest.want, contest.bound)
    else:
        with machine.same_threads():
            result = harness.compete(case, contest, FULL, {}, lambda share: None)
        results.append(result)
        benchmark.extra_info.update(result)
    benchmark.pedantic(contest.rivals["tfcore"](), rounds=5, warmup_rounds=1)
