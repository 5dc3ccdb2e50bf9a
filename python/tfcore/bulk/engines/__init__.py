"""Where parts are computed. Each engine runs the same function on the same texts, so each gives the same bits.

The corpus is read and the parts are stored by the one process that runs the job; workers get texts and give vectors, so
they need the model, and neither the corpus nor a common disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Protocol

from ..recipe import Embedded, Recipe, embed
from ..rows import Part
from ..stopping import Stop

ENGINES = ("local", "dask", "ray")


class Cluster(Protocol):
    """What an engine has to offer. A lost worker's texts are computed anew by the engine itself."""

    def width(self) -> int:
        """How many parts are worth handing over at a time."""

    def submit(self, recipe: Recipe, texts: list[str]) -> Any:
        """Hands texts over, for a handle that can be a key."""

    def wait(self, handles: list[Any]) -> list[Any]:
        """Those that are done, after a moment at most."""

    def result(self, handle: Any) -> Embedded: ...

    def close(self) -> None: ...


def compute(
    recipe: Recipe,
    parts: Iterator[Part],
    stop: Stop,
    *,
    engine: str,
    address: str | None,
    workers: int | None,
) -> Iterator[tuple[Part, Embedded]]:
    """Each part with its vectors, as they come, until there are no more or `stop`. Memory holds `width` parts at most.

    Parameters
    ----------
    address : str or None
        Of a running cluster. None: one on this machine, of `workers` processes, that ends with the job.
    """
    if engine == "local":
        for part in parts:
            yield part, embed(recipe, part.texts)
            if stop:
                return
        return
    with closing(_cluster(engine, address, workers)) as cluster:
        yield from _compute_on(cluster, recipe, parts, stop)


def _cluster(engine: str, address: str | None, workers: int | None) -> Cluster:
    if engine == "dask":
        from .dask import DaskCluster

        return DaskCluster(address, workers)
    from .ray import RayCluster

    return RayCluster(address, workers)


def _compute_on(cluster: Cluster, recipe: Recipe, parts: Iterator[Part], stop: Stop) -> Iterator[tuple[Part, Embedded]]:
    pending: dict[Any, Part] = {}
    while not stop:
        while len(pending) < cluster.width() and (part := next(parts, None)) is not None:
            pending[cluster.submit(recipe, part.texts)] = part
        if not pending:
            return
        for handle in cluster.wait(list(pending)):
            part = pending.pop(handle)
            yield part, cluster.result(handle)
