"""Where it was measured: CPU, instruction set, versions, and how many threads each rival used."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from .. import runtime

_VERSIONS_OF = ("numpy", "torch", "transformers", "onnxruntime", "openvino", "ctranslate2", "llama-cpp-python")
_MODULES = {"llama-cpp-python": "llama_cpp"}  # of packages that have another name


def describe(cases: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The head of a result: everything but the measurements; threads of the rivals that appear in `cases`.

    >>> describe()["threads"]["tfcore"] == runtime.get_num_threads()
    True
    """
    config = runtime.config()
    rivals = dict.fromkeys(["tfcore", *(name for case in cases for name in case["rivals"])])
    return {
        "tfcore": config["version"],
        "date": date.today().isoformat(),
        "machine": {
            "cpu": config["cpu"],
            "isa": config["isa"],
            "system": f"{platform.system()} {platform.machine()}",
            "versions": {"python": platform.python_version(), **_versions()},
        },
        "threads": {name: _threads_of(name) for name in rivals},
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _VERSIONS_OF if find_spec(_MODULES.get(name, name))}


def _threads_of(rival: str) -> int:
    if rival == "numpy":
        return numpy_threads()
    if rival == "torch" and "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    return runtime.get_num_threads()


@contextmanager
def same_threads() -> Iterator[None]:
    """NumPy's matrix products on as many threads as tfcore, where `threadpoolctl` is installed to say so.

    OpenBLAS reads its own environment variable once, when NumPy is imported. torch is told by `torch_peers.load`.
    """
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:
        yield
        return
    with threadpoolctl.threadpool_limits(runtime.get_num_threads(), user_api="blas"):
        yield


def numpy_threads() -> int:
    """Threads of NumPy's matrix products: asked of `threadpoolctl` if installed, else by OpenBLAS's own rules."""
    try:
        pools = import_module("threadpoolctl").threadpool_info()
        return int(max(pool["num_threads"] for pool in pools if pool["user_api"] == "blas"))
    except (ImportError, ValueError):
        pass
    cores = len(os.sched_getaffinity(0))
    wanted = (os.environ.get(name, "") for name in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"))
    return min([cores, *[int(text) for text in wanted if text.isdecimal() and int(text) > 0][:1]])
