"""Parts computed by the workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
from typing import Any

from ...extras import extra
from ..recipe import Embedded, Recipe, embed

_MOMENT = 0.5  # seconds between two looks at whether the job is to stop
_STORE = 1 << 28  # bytes of shared memory on a cluster of our own: a few parts pass through it at a time
_RETRIES = 20  # lost workers that a part survives


class RayCluster:
    """A driver on the cluster at `address`, or on one on this machine. A worker takes one CPU, and as many threads."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = extra("ray", "ray", 'engine="ray"')
        quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        own = {
            "num_cpus": workers or len(os.sched_getaffinity(0)),
            "object_store_memory": _STORE,
            "include_dashboard": False,
        }
        try:
            self._ray.init(address=address or "local", **quiet, **({} if address else own))
        except (ConnectionError, ValueError) as error:
            raise ConnectionError(f"Ray at {address}: cannot be reached ({error})") from error
        self._embed = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(embed)

    def width(self) -> int:
        """A part that runs and one that waits for each CPU that there is now."""
        return max(2, 2 * int(self._ray.cluster_resources().get("CPU", 1)))

    def submit(self, recipe: Recipe, texts: list[str]) -> Any:
        return self._embed.remote(recipe, texts)

    def wait(self, handles: list[Any]) -> list[Any]:
        done, _ = self._ray.wait(handles, num_returns=1, timeout=_MOMENT)
        return list(done)

    def result(self, handle: Any) -> Embedded:
        try:
            embedded: Embedded = self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise ConnectionError(f"a part was lost on Ray ({error})") from error
        return embedded

    def close(self) -> None:
        self._ray.shutdown()
