"""The command on a real local Dask cluster and a real local Ray: two workers, one of them killed in the midst of a job.

The clusters are processes of their own, as they are in use; the job that is killed under is the command.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from bulk_cases import command, job, left, run, sentences, wait_for, write_corpus
from tfcore.bulk.store import working_folder

TEXTS = sentences(2400)
PART_ROWS = 8
ENVIRONMENT = {
    **os.environ,
    "TFCORE_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,  # Ray wants one, and would put it into the home folder
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "c.txt", TEXTS)


@pytest.fixture(scope="module")
def want(tmp_path_factory, corpus, model):
    """The bytes that one process writes."""
    output = tmp_path_factory.mktemp("want") / "v.npy"
    job(corpus, output, model, part_rows=PART_ROWS).run()
    return output.read_bytes()


@contextlib.contextmanager
def started(*arguments):
    """A process in a group of its own, all of which is ended with it."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        with process:
            yield process
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise


def alive_in(group):
    """The ids of the processes of a group, but for those that are dead and not buried."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, member, *_ = path.read_text().rpartition(")")[2].split()
            if int(member) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def finished_under(corpus, output, model, engine, address, kill):
    """The command's words, after `kill` was called in its midst."""
    arguments = ["--input", corpus, "--output", output, "--part-rows", PART_ROWS]
    arguments += ["--engine", engine, "--address", address]
    with subprocess.Popen(
        command(*arguments, model=model), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        wait_for(lambda: process.poll() is not None or len(list(working_folder(output).glob("part-*"))) > 20)
        assert process.poll() is None, process.stderr.read()
        kill()
        assert not output.exists(), "the job was over before the worker died"
        told = process.communicate(timeout=240)[1]
    assert process.returncode == 0, told
    return told


# ---- the pages' examples, as printed but for the model's name


@pytest.mark.parametrize("engine", ["dask.dataframe", "ray.data", "pyspark", "daft"])
def test_the_example_of_the_page(tmp_path, model, engine):
    pytest.importorskip("pandas")
    name = engine.partition(".")[0]
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    page = (Path(__file__).parents[1] / "docs" / f"{name.removeprefix('py')}.md").read_text(encoding="utf-8")
    code = re.search(r"^```python$(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    assert code.count("sentence-transformers/all-MiniLM-L6-v2") == 1
    script = tmp_path / "example.py"
    script.write_text(code.replace("sentence-transformers/all-MiniLM-L6-v2", str(model)))
    with started(script) as example:
        assert example.stdout.read().split()[-2:] in (["200", "(32,)"], ["200", "32"])
        assert example.wait(60) == 0


# ---- Dask

SCHEDULER = """
import asyncio
from distributed import Scheduler
async def main():
    async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
        print(scheduler.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, input)
try:
    asyncio.run(main())
except EOFError:
    pass
"""
WORKER = """
import asyncio, sys
from distributed import Worker
async def main():
    async with Worker(sys.argv[1], nthreads=1, dashboard=False) as worker:
        print(worker.address, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


def test_a_dask_worker_is_killed(tmp_path, corpus, model, want):
    pytest.importorskip("distributed")
    output = tmp_path / "v.npy"
    with started("-c", SCHEDULER) as scheduler:
        address = scheduler.stdout.readline().strip()
        with started("-c", WORKER, address) as one, started("-c", WORKER, address) as other:
            assert one.stdout.readline()
            assert other.stdout.readline()
            told = finished_under(corpus, output, model, "dask", address, other.kill)
            assert other.wait(10) == -signal.SIGKILL
            assert one.poll() is None
    assert "2400 rows, 0 skipped" in told
    assert output.read_bytes() == want
    assert left(tmp_path) == ["v.npy"]


def test_an_interrupt_on_a_cluster_made_here(tmp_path, corpus, model, want):
    """Ctrl-C reaches the workers too, as in a terminal."""
    pytest.importorskip("distributed")
    output = tmp_path / "v.npy"
    arguments = ["--input", corpus, "--output", output, "--part-rows", PART_ROWS]
    with subprocess.Popen(
        command(*arguments, "--engine", "dask", "--workers", 2, model=model),
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as process:
        wait_for(lambda: process.poll() is not None or len(list(working_folder(output).glob("part-*"))) > 20)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert told[0] == "no address was given: dask runs on this machine, for this job alone"
    assert told[-1] == "tfcore: stopped; what is done is kept: the same command goes on from there"
    assert all("rows/s" in line for line in told[1:-1])  # on a slow machine there are lines of progress
    wait_for(lambda: not alive_in(process.pid), 20)
    assert job(corpus, output, model, part_rows=PART_ROWS).run().earlier > 160
    assert output.read_bytes() == want


def test_dask_cannot_be_reached(tmp_path, corpus, model):
    pytest.importorskip("distributed")
    arguments = ["--input", corpus, "--output", tmp_path / "v.npy", "--engine", "dask"]
    done = run(*arguments, "--scheduler", "tcp://127.0.0.1:1", model=model, env=ENVIRONMENT)
    assert done.returncode == 1
    assert b"tfcore: Dask scheduler tcp://127.0.0.1:1: no worker can be reached" in done.stderr
    done = run(*arguments, "--scheduler", "garbage", model=model, env=ENVIRONMENT)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"--scheduler is 'garbage', expected the address of a Dask scheduler" in done.stderr
    assert left(tmp_path) == []


# ---- Ray

RAY = """
import logging, ray, sys
context = ray.init(address="local", num_cpus=2, object_store_memory=1 << 27, include_dashboard=False,
                   log_to_driver=False, logging_level=logging.ERROR)
print(context.address_info["address"], flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def ray_address():
    pytest.importorskip("ray")
    with started("-c", RAY) as cluster:
        yield cluster.stdout.readline().strip()


def ray_workers():
    """The ids of the processes that compute a part at this moment: Ray writes it into their titles."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::embed"):
                found.append(int(path.parent.name))
    return found


def test_a_ray_worker_is_killed(tmp_path, corpus, model, want, ray_address):
    output = tmp_path / "v.npy"
    lost = []

    def kill():
        lost.append(wait_for(ray_workers)[0])
        os.kill(lost[0], signal.SIGKILL)

    told = finished_under(corpus, output, model, "ray", ray_address, kill)
    assert not Path(f"/proc/{lost[0]}").exists()
    assert "2400 rows, 0 skipped" in told
    assert output.read_bytes() == want
    assert left(tmp_path) == ["v.npy"]
