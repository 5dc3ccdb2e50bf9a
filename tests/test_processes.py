"""An encoder in other processes than its own, in many threads, and on machines that hide or limit something."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import tfcore
from checkpoints import minilm, write_bert
from children import in_a_subprocess
from closeness import assert_same_bits

TEXTS = [" ".join(["the", "cat", "sat"] * (1 + row % 5)) for row in range(40)]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture
def encoder(tmp_path):
    return tfcore.SentenceEncoder(write_bert(tmp_path / "model"))


# --- fork and spawn --------------------------------------------------------------------------------------------------

PRELOADED = """
    import multiprocessing, warnings
    import tfcore
    warnings.simplefilter("ignore")  # Python itself warns of fork beside threads

    tfcore.set_num_threads(2)
    texts = ["the cat sat " * (1 + row % 20) for row in range(20)]
    encoder = tfcore.SentenceEncoder({folder!r})
    want = encoder.encode(texts).tobytes()
"""


@forks
def test_a_pool_forked_from_a_process_that_has_encoded():
    code = """
    def work(_):
        return encoder.encode(texts).tobytes()

    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(4)) == [want] * 4
    assert encoder.encode(texts).tobytes() == want
    print("done")
    """
    assert in_a_subprocess(PRELOADED.format(folder=str(minilm())) + code) == "done\n"


@forks
@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="this system does not tell what is shared")
def test_forked_workers_share_their_parents_weights():
    """As a server does that loads its application first: two workers, alive together, 42 MB of layers shared."""
    code = """
    import os, re

    def private():  # MB
        with open("/proc/self/smaps_rollup") as lines:
            found = re.findall(r"Private_(?:Clean|Dirty):\\s+(\\d+)", lines.read())
        return sum(map(int, found)) / 1024

    def serve():
        readable, writable = os.pipe()
        if os.fork() == 0:
            same = encoder.encode(texts).tobytes() == want
            os.write(writable, f"{same} {private()}".encode())
            os._exit(0)
        return readable

    alone = private()
    for worker in [serve(), serve()]:
        same, size = os.read(worker, 100).split()
        assert os.wait()[1] == 0
        assert same == b"True"
        assert float(size) < 25, f"a worker has {size} MB of its own"
    assert alone > 42, f"{alone} MB: the measure would not see the weights"
    print("done")
    """
    assert in_a_subprocess(PRELOADED.format(folder=str(minilm())) + code) == "done\n"


def encode_in_worker(encoder):
    return encoder.encode(TEXTS)


def test_a_spawned_worker_opens_the_encoder_by_its_path(encoder):
    assert len(pickle.dumps(encoder)) < 2000
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        got = pool.submit(encode_in_worker, encoder).result(timeout=100)
    assert_same_bits(got, encoder.encode(TEXTS))


# --- threads ---------------------------------------------------------------------------------------------------------


def test_many_threads_encode_at_once(encoder):
    want, barrier = encoder.encode(TEXTS), threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [encoder.encode(TEXTS) for _ in range(5)]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            for got in results:
                assert_same_bits(got, want)


# --- what a machine hides or limits ----------------------------------------------------------------------------------

ENCODE = """
    import os, sys
    import tfcore
    assert os.path.exists("/proc/self/status") == {proc}
    vectors = tfcore.SentenceEncoder({folder!r}).encode(["the cat sat"] * 9)
    print(tfcore.get_num_threads(), tfcore.runtime.config()["threads_reason"], vectors.shape[0], sep="; ")
"""


def mounted(commands):
    """A command line's beginning: a process that sees other mounts than this one. Skips where that is not allowed."""
    before = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{commands} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    return before


@pytest.fixture
def plain_environment(monkeypatch):
    for name in ("TFCORE_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
def test_a_process_under_a_quota(tmp_path, plain_environment):
    folder = write_bert(tmp_path / "model")
    (tmp_path / "groups" / "box").mkdir(parents=True)
    (tmp_path / "groups" / "box" / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "cgroup").write_text("0::/box\n")
    before = mounted(f"mount --bind {tmp_path}/groups /sys/fs/cgroup && mount --bind {tmp_path}/cgroup /proc/$$/cgroup")
    seen = in_a_subprocess(ENCODE.format(folder=str(folder), proc=True), *before)
    assert seen == "1; control group's quota of 0.5 CPUs; 9\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and /sys")
def test_a_process_without_proc_and_sys(tmp_path, plain_environment):
    folder = write_bert(tmp_path / "model")
    before = mounted("mount -t tmpfs none /sys && mount -t tmpfs none /proc")
    seen = in_a_subprocess(ENCODE.format(folder=str(folder), proc=False), *before)
    assert seen == f"{len(os.sched_getaffinity(0))}; CPU affinity; 9\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_other_threads_tokenize(tmp_path):
    """The child has no such thread, and must not wait for what it held."""
    code = f"""
        import os, threading, warnings
        from tfcore import AutoTokenizer

        warnings.simplefilter("ignore")
        tokenizer = AutoTokenizer.from_pretrained({str(write_bert(tmp_path))!r})
        texts = ["one two three"] * 200
        want, stop = tokenizer(texts)["input_ids"], threading.Event()

        def work():
            while not stop.is_set():
                tokenizer(texts)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            child = os.fork()
            if not child:
                os._exit(0 if tokenizer(texts)["input_ids"] == want else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        print("done")
    """
    assert in_a_subprocess(code) == "done\n"


@forks
def test_a_fork_while_another_thread_opens_an_encoder(tmp_path):
    """The child opens it for itself."""
    code = f"""
        import os, pickle, signal, threading, time, warnings
        import numpy as np
        from tfcore import SentenceEncoder

        warnings.simplefilter("ignore")
        encoder = SentenceEncoder({str(write_bert(tmp_path))!r})
        want, stored = encoder.encode("one two three"), pickle.dumps(encoder)
        for attempt in range(8):
            copy = pickle.loads(stored)
            thread = threading.Thread(target=copy.encode, args=("one",))
            thread.start()
            time.sleep(attempt * 0.5e-3)
            child = os.fork()
            if not child:
                signal.alarm(60)
                os._exit(0 if np.array_equal(copy.encode("one two three"), want) else 1)
            assert os.waitpid(child, 0)[1] == 0
            thread.join()
        print("done")
    """
    assert in_a_subprocess(code) == "done\n"
