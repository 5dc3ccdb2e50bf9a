"""Parts computed by the workers of a Dask cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

from ...extras import extra
from ..recipe import Embedded, Recipe, embed

_PURPOSE = 'engine="dask"'
_PATIENCE = 60  # seconds for a cluster's first worker to appear
_MOMENT = 0.5  # seconds between two looks at whether the job is to stop


def _quieten() -> None:
    """Lost workers and cancelled parts are the cluster's business, and the job's to bear: what matters is raised."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


def dask_setup(worker: Any) -> None:
    """What the workers of a cluster made here do first: Ctrl-C, which a terminal sends to all, is the job's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _quieten()


def _check(address: str) -> None:
    """Refuses what is no address: a client of it would wait for a minute when it is given up."""
    try:
        extra("distributed.comm", "dask", _PURPOSE).get_address_host_port(address)
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"address is {address!r}, expected the address of a Dask scheduler ({error})") from None


class DaskCluster:
    """A client of the cluster whose scheduler is at `address`, or of one on this machine."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self._distributed = extra("distributed", "dask", _PURPOSE)
        if address is not None:
            _check(address)
        _quieten()
        self._local: Any = None
        if address is None:
            self._local = self._distributed.LocalCluster(
                n_workers=workers or len(os.sched_getaffinity(0)),
                threads_per_worker=1,
                dashboard_address=None,
                preload=[__name__],
            )
        where = f"Dask scheduler {address}" if address else "local Dask cluster"
        try:
            self._client = self._distributed.Client(self._local or address, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            self.close()
            raise ConnectionError(f"{where}: no worker can be reached ({error})") from error

    def width(self) -> int:
        """A part that runs and one that waits for each thread of the workers that there are now."""
        threads: int = sum(self._client.nthreads().values())
        return max(2, 2 * threads)

    def submit(self, recipe: Recipe, texts: list[str]) -> Any:
        return self._client.submit(embed, recipe, texts, pure=False)

    def wait(self, handles: list[Any]) -> list[Any]:
        with self._client.as_current():  # `wait` takes no client
            try:
                return list(self._distributed.wait(handles, timeout=_MOMENT, return_when="FIRST_COMPLETED").done)
            except asyncio.TimeoutError:
                return []

    def result(self, handle: Any) -> Embedded:
        try:
            embedded: Embedded = handle.result()
        except self._distributed.KilledWorker as error:
            raise ConnectionError("the same part has ended several Dask workers: is their memory too small?") from error
        return embedded

    def close(self) -> None:
        if hasattr(self, "_client"):
            self._client.close()
        if self._local is not None:
            self._local.close()
