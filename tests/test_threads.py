"""Many Python threads at once, the GIL, and fork."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tfcore
from arrays import normal
from children import in_a_subprocess
from closeness import assert_same_bits


def works(rng):
    """Calls large enough for several threads, and some too small for more than one."""
    q, k, v = (normal(rng, 2, 3, n, 32) for n in (90, 170, 170))
    x, weight = normal(rng, 150, 200), normal(rng, 130, 200)
    packed = tfcore.PackedLinear(weight)
    return [
        lambda: tfcore.scaled_dot_product_attention(q, k, v, is_causal=True),
        lambda: tfcore.scaled_dot_product_attention(q[:, :, :1], k, v),
        lambda: tfcore.linear(x, weight, activation="gelu"),
        lambda: packed(x),
        lambda: packed(x[:3]),
        lambda: packed(x.astype(np.float64)),
        lambda: tfcore.matmul(x, weight.T),
        lambda: tfcore.layer_norm(x),
        lambda: tfcore.softmax(x, 0),
        lambda: tfcore.gelu(x),
        lambda: tfcore.positional_encoding(300, 64),
        lambda: tfcore.rotary_embedding(q),
    ]


def test_calls_from_many_threads_at_once(machine, rng):
    calls = works(rng)
    want = [call() for call in calls]
    barrier = threading.Barrier(8)

    def run(start):
        barrier.wait()
        order = [(start + i) % len(calls) for i in range(3 * len(calls))]
        return [(i, calls[i]()) for i in order]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(run, range(8)):
            for i, got in results:
                assert_same_bits(got, want[i], f"call {i}")


def test_one_packed_weight_for_all_threads_at_once(rng):
    """The first wider call packs the weight again; all threads make that first call together."""
    x, weight = normal(rng, 40, 200, dtype=np.float64), normal(rng, 130, 200)
    want = tfcore.linear(x, weight)
    for _ in range(10):
        packed, barrier = tfcore.PackedLinear(weight), threading.Barrier(6)

        def call(packed=packed, barrier=barrier):
            barrier.wait()
            return packed(x)

        with ThreadPoolExecutor(6) as pool:
            for future in [pool.submit(call) for _ in range(6)]:
                assert_same_bits(future.result(), want)


def test_the_gil_is_released(rng):
    """Python code runs in this thread between the beginning and the end of a call in another."""
    a = normal(rng, 700, 700, dtype=np.float64)
    q = normal(rng, 4, 900, 64, dtype=np.float64)
    packed, tall = tfcore.PackedLinear(a), np.repeat(a, 8, axis=0)
    calls = {
        "matmul": lambda: tfcore.matmul(a, a),
        "linear": lambda: tfcore.linear(a, a),
        "PackedLinear": lambda: packed(a),
        "attention": lambda: tfcore.scaled_dot_product_attention(q, q, q),
        "softmax": lambda: tfcore.softmax(tall),
        "gelu": lambda: tfcore.gelu(tall),
        "positional_encoding": lambda: tfcore.positional_encoding(4000, 700),
    }
    before = sys.getswitchinterval()
    sys.setswitchinterval(10.0)  # nobody gives the GIL up because somebody asks for it
    try:
        with tfcore.num_threads(1):
            for name, call in calls.items():
                assert any(runs_beside(call) for _ in range(20)), f"{name} held the GIL throughout"
    finally:
        sys.setswitchinterval(before)


def runs_beside(call) -> bool:
    """Whether this thread ran while `call` was under way in another; it may lose the race for a core, so ask again."""
    state = {"stage": "before"}

    def run():
        state["stage"] = "inside"
        call()
        state["stage"] = "after"

    other = threading.Thread(target=run)
    other.start()
    while state["stage"] == "before":
        time.sleep(0)  # lets the GIL go
    seen = state["stage"]
    other.join()
    return seen == "inside"


FORK = """
    import os, warnings
    import numpy as np, tfcore
    warnings.simplefilter("ignore")  # Python itself warns of fork beside threads

    tfcore.set_num_threads(2)
    x = np.random.default_rng(0).standard_normal((400, 400)).astype(np.float32)
    {before}

    def work():
        return tfcore.matmul(x, x).tobytes() + tfcore.self_attention(x, x, x).tobytes()

    want = work()
    for _ in range(3):
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            good = work() == want and work() == want
            os.write(writable, b"same" if good else b"different")
            os._exit(0)
        assert work() == want
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(readable, 9) == b"same"
    assert work() == want
    print("done")
"""


def test_an_instruction_set_chosen_in_the_midst_of_another_threads_call():
    """A call keeps the set that it began with: its scratch is that one's. Large enough for scratch to have an end."""
    code = """
        import threading
        import numpy as np, tfcore

        q, k, v = (np.ones((1, 2, *shape), np.float32) for shape in ((64, 16385), (256, 16385), (256, 1)))

        def work(isa):
            for _ in range(40):
                with tfcore.use_isa(isa):
                    assert np.all(tfcore.scaled_dot_product_attention(q, k, v) == 1)

        threads = [threading.Thread(target=work, args=(isa,)) for isa in tfcore.available_isas()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("done")
    """
    assert in_a_subprocess(code) == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use():
    assert in_a_subprocess(FORK.format(before="")) == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_after_use_beside_torch():
    """torch brings threads of its own."""
    pytest.importorskip("torch")
    code = FORK.format(before="import torch; torch.ones(500, 500) @ torch.ones(500, 500)")
    assert in_a_subprocess(code) == "done\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_pool_of_forked_processes():
    code = """
        import multiprocessing, warnings
        import numpy as np, tfcore
        warnings.simplefilter("ignore")

        def work(seed):
            x = np.random.default_rng(seed).standard_normal((300, 300))
            return tfcore.matmul(x, x).tobytes()

        want = [work(seed) for seed in range(6)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(work, range(6)) == want
        print("done")
    """
    assert in_a_subprocess(code, TFCORE_NUM_THREADS="2") == "done\n"


def test_the_interpreter_ends_beside_daemon_threads():
    """They are within an operator, without the GIL, and are ended as they ask for it."""
    code = """
    import threading, time
    import numpy as np, tfcore

    x = np.ones((400, 3000), np.float32)

    def work():
        while True:
            tfcore.softmax(x)

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    print("done")
    """
    for _ in range(3):
        assert in_a_subprocess(code) == "done\n"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("milliseconds", [10, 20, 30, 50, 80])
def test_an_interrupt_while_arguments_are_converted(milliseconds):
    """A signal's exception comes out of the call, wherever it finds it."""
    code = f"""
    import signal
    import numpy as np, tfcore

    q, k = np.ones((2000, 1), np.float32), np.ones((4000, 1), np.float32)
    mask = np.zeros((4000, 2000)).T  # float64: made narrow for each call

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, {milliseconds / 1000})
    try:
        while True:
            tfcore.scaled_dot_product_attention(q, k, k, mask)
    except KeyboardInterrupt:
        print("done")
    """
    assert in_a_subprocess(code) == "done\n"


def test_no_thread_is_started_by_the_import():
    code = """
        import os, numpy
        before = len(os.listdir("/proc/self/task"))
        import tfcore
        assert len(os.listdir("/proc/self/task")) == before
        tfcore.softmax(numpy.ones((4, 4)))
        assert len(os.listdir("/proc/self/task")) == before, "small work woke a thread"
        print("done")
    """
    if not os.path.isdir("/proc/self/task"):
        pytest.skip("only Linux lists a process's threads")
    assert in_a_subprocess(code) == "done\n"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="this process has one core"
)
def test_a_helper_on_the_caller_s_own_core():
    """Held there, it is no help and no harm; free to leave, it does. Where it may run stays as it was."""
    code = """
        import os, time
        import numpy as np
        allowed, before = os.sched_getaffinity(0), set(os.listdir("/proc/self/task"))
        import tfcore

        tfcore.set_num_threads(2)
        x = np.random.default_rng(0).standard_normal((300, 300), dtype=np.float32)
        want = tfcore.matmul(x, x).tobytes()
        (helper,) = map(int, set(os.listdir("/proc/self/task")) - before)
        core = min(allowed)
        os.sched_setaffinity(0, {core})
        os.sched_setaffinity(helper, {core})

        def work(until):
            end = time.monotonic() + 30
            while time.monotonic() < end:
                assert tfcore.matmul(x, x).tobytes() == want
                if until():
                    return
            raise TimeoutError

        def cpu():
            with open(f"/proc/self/task/{helper}/stat") as stat:
                return int(stat.read().rpartition(")")[2].split()[36])

        soon = time.monotonic() + 0.1
        work(until=lambda: time.monotonic() > soon)
        assert os.sched_getaffinity(helper) == {core}
        os.sched_setaffinity(helper, allowed)
        work(until=lambda: cpu() != core)
        assert os.sched_getaffinity(helper) == allowed
        print("done")
    """
    assert in_a_subprocess(code) == "done\n"


def test_the_number_of_threads_is_set_and_put_back():
    before = tfcore.get_num_threads()
    with tfcore.num_threads(3):
        assert tfcore.get_num_threads() == 3
        with contextlib.suppress(RuntimeError), tfcore.num_threads(4):
            assert tfcore.get_num_threads() == 4
            raise RuntimeError("leaves both blocks")
        assert tfcore.get_num_threads() == 3
    assert tfcore.get_num_threads() == before


def test_environment():
    show = "import tfcore; print(tfcore.get_num_threads(), tfcore.isa())"
    for isa in tfcore.available_isas():
        assert in_a_subprocess(show, TFCORE_NUM_THREADS="3", TFCORE_ISA=isa) == f"3 {isa}\n"
    refused = "try:\n    import tfcore\nexcept (ImportError, ValueError) as error:\n    print(error)"
    message = in_a_subprocess(refused, TFCORE_ISA="avx9")
    assert "TFCORE_ISA" in message
    assert all(name in message for name in ("avx9", *tfcore.available_isas()))
    for wrong in ("0", "-1", "two", "1.5"):
        message = in_a_subprocess(refused, TFCORE_NUM_THREADS=wrong)
        assert "TFCORE_NUM_THREADS" in message
        assert wrong in message
