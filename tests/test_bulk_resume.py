"""`tfcore embed --input` killed, stopped, damaged, started twice: the next run goes on, the bytes are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bulk_cases import command, job, left, run, sentences, wait_for, write_corpus
from tfcore import use_isa
from tfcore.bulk.stopping import stop_on_signals
from tfcore.bulk.store import Store, working_folder

TEXTS = sentences(70)
EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open")  # what changes a folder, as Python's audit names it


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpora") / "c.txt", TEXTS)


@pytest.fixture(scope="module")
def want(tmp_path_factory, corpus, model):
    """The bytes of the file that an uninterrupted run writes, by its name's end."""

    @cache
    def written(suffix=".npy"):
        output = tmp_path_factory.mktemp("want") / f"v{suffix}"
        job(corpus, output, model).run()
        return output.read_bytes()

    return written


def killed(work, events, fatal):
    """The status of a process of its own that does `work` and is killed before the `fatal`-th of its `events`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of a fork beside other threads
        child = os.fork()
    if not child:
        seen = 0

        def count(event, arguments):
            nonlocal seen
            if event in events and str(work.output.parent) in str(arguments):
                seen += 1
                if seen == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work.run()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_killed_at_every_moment(tmp_path, corpus, model, want, suffix):
    """A kill before each change of the folder in turn, until a run gets through; each time a second run goes on."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    for fatal in range(1, 1000):
        folder = tmp_path / str(fatal)
        folder.mkdir()
        output = folder / f"v{suffix}"
        status = killed(job(corpus, output, model), EVENTS, fatal)
        if output.exists():
            assert output.read_bytes() == want(suffix)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if not output.exists() or (working_folder(output) / "manifest.json").exists():
            job(corpus, output, model).run()
        else:  # complete: what is left of the working folder is only swept up
            with pytest.raises(FileExistsError):
                job(corpus, output, model).run()
        assert output.read_bytes() == want(suffix)
        assert left(folder) == [output.name]
    assert fatal > 30
    assert left(folder) == [output.name]


def test_killed_again_and_again(tmp_path, corpus, model, want):
    """Each run puts one more file in place, and is killed at the next."""
    output = tmp_path / "v.npy"
    runs = 0
    while status := killed(job(corpus, output, model), ("os.rename",), 2):
        assert status == -signal.SIGKILL
        assert not output.exists()
        runs += 1
        assert runs < 20
    assert runs == 6  # the manifest and five parts; the output is that of the seventh run
    assert output.read_bytes() == want()


def wait_until_it_sleeps(process):
    """Until it has been asleep for 0.15 s: it waits for its input."""
    awake = time.monotonic()

    def asleep():
        nonlocal awake
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state != "S":
            awake = time.monotonic()
        return time.monotonic() - awake > 0.15

    wait_for(asleep)


def wait_for_parts(process, output, count):
    wait_for(lambda: process.poll() is not None or len(parts_of(output)) == count)
    assert process.poll() is None


def parts_of(output):
    return list(working_folder(output).glob("part-????????"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(tmp_path, model, number, status):
    """The real command: a pipe that gives it three parts and then nothing holds it in its midst."""
    texts = sentences(200)
    output = tmp_path / "v.npy"
    arguments = ["--input", "-", "--output", output, "--part-rows", 10]
    with subprocess.Popen(
        command(*arguments, model=model), stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        process.stdin.write("\n".join(texts[:35]).encode())
        wait_for_parts(process, output, 3)
        wait_until_it_sleeps(process)
        process.send_signal(number)
        process.wait(60)  # though it waits for its input
        told = process.stderr.read()
    assert process.returncode == status
    if number != signal.SIGKILL:
        assert b"stopped; what is done is kept: the same command goes on from there" in told
        assert told.count(b"\n") == 1
    assert not output.exists()
    short = run(*arguments, model=model, stdin="\n".join(texts[:10]).encode())
    assert short.returncode == 1
    assert b"the input ends after row 10, where an earlier run read on" in short.stderr
    done = run(*arguments, model=model, stdin="\n".join(texts).encode())
    assert done.returncode == 0, done.stderr
    assert b" 30 done earlier" in done.stderr
    write_corpus(tmp_path / "c.txt", texts)
    job(tmp_path / "c.txt", tmp_path / "w.npy", model).run()
    assert output.read_bytes() == (tmp_path / "w.npy").read_bytes()


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_kept_of_a_forced_run(tmp_path, model, kept):
    output = tmp_path / "v.npy"
    output.write_bytes(b"an earlier result")
    arguments = ["--input", "-", "--output", output, "--part-rows", 1 if kept else 9, "--force"]
    with subprocess.Popen(
        command(*arguments, model=model), stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        process.stdin.write(b"a\nb\n")
        wait_for(lambda: (working_folder(output) / "manifest.json").exists())
        wait_for_parts(process, output, 2 if kept else 0)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        told = process.stderr.read().decode()
    done = (
        "what is done is kept: the same command, without --force, goes on from there" if kept else "nothing is done yet"
    )
    assert told == f"tfcore: stopped; {done}\n"
    assert len(parts_of(output)) == (2 if kept else 0)
    assert output.read_bytes() == b"an earlier result"


def test_a_second_signal_acts_as_ever():
    with stop_on_signals() as stop:
        assert list(stop.until(iter("ab"))) == ["a", "b"]
        signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGINT
        assert list(stop.until(iter("ab"))) == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_link_is_followed(tmp_path, corpus, model, want):
    (tmp_path / "large disk").mkdir()
    output, link = tmp_path / "large disk" / "real.npy", tmp_path / "v.npy"
    link.symlink_to(output)
    job(corpus, link, model).run()
    assert link.is_symlink()
    assert output.read_bytes() == want()


def test_another_rounding_is_another_job(tmp_path, model):
    """x86-64-v2 alone has no fused multiply-adds: its vectors have other bits."""
    output = tmp_path / "v.npy"
    fails = write_corpus(tmp_path / "c.jsonl", ['{"text": "a"}', "no JSON"])
    with pytest.raises(ValueError, match="line 2: not JSON"):
        job(fails, output, model, part_rows=1).run()
    assert len(parts_of(output)) == 1
    with use_isa("x86-64-v2"), pytest.raises(ValueError, match="fused multiply-adds was true and is now false"):
        job(fails, output, model, part_rows=1).run()


def test_two_at_once(tmp_path, corpus, model, want):
    """The second is refused while the first lives, and not by what a dead one has left."""
    output = tmp_path / "v.npy"
    arguments = ["--input", "-", "--output", output, "--part-rows", 16]
    with subprocess.Popen(command(*arguments, model=model), stdin=subprocess.PIPE, bufsize=0) as first:
        first.stdin.write("\n".join(TEXTS).encode())
        wait_for_parts(first, output, 4)
        for force in (False, True):
            with pytest.raises(BlockingIOError, match=rf"v\.npy: process {first.pid} is working on it"):
                job(corpus, output, model, force=force).run()
        assert len(parts_of(output)) == 4
        first.kill()
    done = run(*arguments, model=model, stdin="\n".join(TEXTS).encode())
    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == want()


def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path, monkeypatch):
    """Between another process's opening of the lock and its taking it, the folder's owner finishes and removes it."""
    import fcntl

    output = tmp_path / "v.npy"
    real, calls = fcntl.flock, []

    def flock(lock, how):
        if not calls:
            (working_folder(output) / "lock").unlink()
        calls.append(how)
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Store.open(output, {}, force=False), pytest.raises(BlockingIOError), Store.open(output, {}, force=False):
        pass
    assert len(calls) == 3
    assert left(tmp_path) == []


@pytest.mark.parametrize("place", [-5, 0, 3], ids=["vectors", "head", "name"])
def test_a_damaged_part(tmp_path, corpus, model, want, place):
    output = tmp_path / "v.npy"
    assert killed(job(corpus, output, model), ("os.rename",), 6) == -signal.SIGKILL
    part = sorted(parts_of(output))[2]
    content = bytearray(part.read_bytes())
    content[place] ^= 1
    part.write_bytes(content)
    with pytest.raises(ValueError, match=r"part-00000002: damaged, and removed: run the same job again"):
        job(corpus, output, model).run()
    assert job(corpus, output, model).run().earlier == (
        54 if place == -5 else 48
    )  # found when all was done, or on the way to that
    assert output.read_bytes() == want()


def test_a_damaged_manifest(tmp_path, corpus, model, want):
    output = tmp_path / "v.npy"
    assert killed(job(corpus, output, model), ("os.rename",), 3) == -signal.SIGKILL
    (working_folder(output) / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json: damaged; force=True starts v\.npy anew"):
        job(corpus, output, model).run()
    job(corpus, output, model, force=True).run()
    assert output.read_bytes() == want()


def test_forced_runs_go_on_without_force(tmp_path, corpus, model, want):
    """While an old output stands: it stays until the new one is complete."""
    output = tmp_path / "v.npy"
    output.write_text("old")
    assert killed(job(corpus, output, model, force=True), ("os.rename",), 4) == -signal.SIGKILL
    assert output.read_text() == "old"
    assert job(corpus, output, model).run().earlier == 32
    assert output.read_bytes() == want()


def test_another_batch_size_goes_on(tmp_path, corpus, model, want):
    output = tmp_path / "v.npy"
    assert killed(job(corpus, output, model), ("os.rename",), 4) == -signal.SIGKILL
    job(corpus, output, model, options={"batch_size": 5}).run()
    assert output.read_bytes() == want()
    assert np.load(output).shape == (70, 32)
