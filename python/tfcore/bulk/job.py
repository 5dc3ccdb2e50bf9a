"""A corpus to one file of vectors, part by part.

The corpus is read from its beginning in every run. Parts that an earlier run finished are recognised by their rows and
passed over: reading costs little where computing costs much, and a corpus that has changed underneath is noticed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..runtime import isa
from ..scalars import check_choice, integer, shown
from .engines import ENGINES, compute
from .outputs import Shape, writer_for
from .progress import Show, State, progress
from .readers import Corpus
from .recipe import Embedded, Recipe, embed
from .rows import Part, Row, parts_of
from .stopping import Stop, stop_on_signals
from .store import Store, Stored, followed, replacing

_WITHOUT_FMA = "x86-64-v2"  # its bits are its own; all other instruction sets have those of one another
_MOST_REPORTS = 20  # bad rows that are told one by one
_KINDS = (
    ("corpus", Corpus, "a Corpus"),
    ("output", str | os.PathLike, "a file's name"),
    ("recipe", Recipe, "a Recipe"),
    ("address", str | None, "a string"),
)


class Stopped(Exception):  # noqa: N818 - a wish that was heard, not an error
    """A signal came. The parts that were done are kept, as far as there are any: `kept`."""

    def __init__(self, signal: int, kept: bool) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal
        self.kept = kept


@dataclass(frozen=True)
class Outcome:
    """What a job has done. `rows` counts all, `skipped` the bad ones, `truncated` those longer than the model
    takes, `earlier` those that an earlier run had done; `column` is the column that they were read from, if any."""

    rows: int
    skipped: int
    truncated: int
    earlier: int
    dim: int
    seconds: float
    column: str | None = None

    def __str__(self) -> str:
        source = "" if self.column is None else f" of column {shown(self.column)}"
        words = [f"{self.rows} rows{source}", f"{self.skipped} skipped", f"{self.truncated} truncated"]
        if self.earlier:
            words.append(f"{self.earlier} done earlier")
        rate = (self.rows - self.earlier) / max(self.seconds, 1e-9)
        return ", ".join([*words, f"dimension {self.dim}", f"{self.seconds:.1f} s", f"{rate:.1f} rows/s"])


@dataclass
class Job:
    """A corpus, a model, and the file that gets the vectors.

    >>> job = Job(Corpus("corpus.txt"), "vectors.npy", Recipe("all-MiniLM-L6-v2"))  # doctest: +SKIP
    >>> print(job.run())  # doctest: +SKIP
    3 rows, 0 skipped, 0 truncated, dimension 384, ... s, ... rows/s

    Parameters
    ----------
    corpus : Corpus
        What to read.
    output : str or path
        .npy: row i is the vector of the corpus' row i, NaN where that is bad; .parquet: columns `row` (from 0) and
        `embedding`, without the bad rows.
    recipe : Recipe
        The model and its options.
    on_error : str
        "fail": a bad row ends the job; "skip": it is reported and left without a vector.
    part_rows : int
        Rows between two points from which a killed job can go on.
    engine : str
        Where parts are computed: "local", or on a cluster of "dask" or "ray".
    address : str, optional
        Of a cluster that is running. Default: one on this machine, for this job alone.
    workers : int, optional
        How many that one has. Default: one for each core.
    force : bool
        Whether to begin anew, over an unfinished job and a finished output.
    quiet : bool
        Whether to show no progress.
    report : function of str
        Is told of every bad row, up to a number.

    Raises
    ------
    TypeError
        A setting is of another kind.
    ValueError
        `on_error` or `engine` is none of these, a number is not positive, or settings do not go together.
    """

    corpus: Corpus
    output: str | os.PathLike[str]
    recipe: Recipe
    on_error: str = "fail"
    part_rows: int = 1024
    engine: str = "local"
    address: str | None = None
    workers: int | None = None
    force: bool = False
    quiet: bool = True
    report: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        for name, kind, expected in _KINDS:
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} is {type(value).__name__}, expected {expected}")
        check_choice("on_error", self.on_error, ("fail", "skip"))
        check_choice("engine", self.engine, ENGINES)
        self.part_rows = integer("part_rows", self.part_rows)
        if self.workers is not None:
            self.workers = integer("workers", self.workers)
        if self.engine == "local":
            for name in ("address", "workers"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is {getattr(self, name)!r}, expected None where engine is 'local'")
        elif self.address is not None and self.workers is not None:
            raise ValueError(f"workers is {self.workers}, expected None beside the address of a running cluster")
        if self.recipe.batch_size is not None:
            self.recipe = self.recipe._replace(batch_size=integer("batch_size", self.recipe.batch_size))
        if self.recipe.truncate_dim is not None:
            self.recipe = self.recipe._replace(truncate_dim=integer("truncate_dim", self.recipe.truncate_dim))

    def run(self) -> Outcome:
        """All of the job, or what an earlier run left of it.

        Raises
        ------
        ValueError
            A row is bad and `on_error` is "fail"; the corpus, the model or an option is not that of the unfinished job.
        OSError
            A file cannot be read or written; another process works on this output; a cluster cannot be reached.
        Stopped
            SIGINT or SIGTERM came. The same job, run again, goes on.
        """
        started = time.monotonic()
        output = followed(Path(self.output))
        write = writer_for(output)
        if not self.corpus.piped and output.exists() and output.samefile(self.corpus.source):
            raise ValueError(f"{output}: is the corpus itself, expected another file")
        if output.is_dir():
            raise IsADirectoryError(f"{output}: is a folder, expected a file to write")
        sample = embed(self.recipe, ["a"])
        dim = sample.vectors.shape[1]
        recipe = self.recipe._replace(checkpoint=sample.checkpoint)
        manifest = self._manifest(sample.checkpoint)
        with stop_on_signals() as stop, Store.open(output, manifest, force=self.force) as store:
            try:
                work = _Work(self, recipe, store, stop)
                work.compute()
                if self.corpus.fingerprint() != manifest["input"]:
                    raise ValueError(f"{self.corpus.name}: was changed while it was read; force=True starts anew")
                with replacing(output, store.folder / "output") as file:
                    write(file, work.finished(), Shape(work.rows, dim))
            except OSError as error:
                if error.errno is None:
                    raise
                raise OSError(
                    f"{output}: not written: {error}; what is done is kept: the same job, run again, goes on from there"
                ) from error
            store.remove()
        seconds = time.monotonic() - started
        return Outcome(work.rows, work.skipped, work.truncated, work.earlier, dim, seconds, self.corpus.column)

    def _manifest(self, checkpoint: str) -> dict[str, Any]:
        """What two runs must have in common to be one job."""
        return {
            "tfcore": __version__,
            "input": self.corpus.fingerprint(),
            "model": checkpoint,
            "fused multiply-adds": isa() != _WITHOUT_FMA,
            **self.recipe.options(),
            "part rows": self.part_rows,
        }


class _Work:
    """A run of a job: its counts, and its parts on their way into the store and out of it."""

    def __init__(self, job: Job, recipe: Recipe, store: Store, stop: Stop) -> None:
        self._job, self._recipe, self._store, self._stop = job, recipe, store, stop
        self._parts = 0
        self.rows = self.skipped = self.earlier = 0  # that have been read
        self.truncated = 0  # of those that are written
        self._done = 0

    def compute(self) -> None:
        """Fills the store."""
        job = self._job
        with progress(job.quiet) as show:
            results = compute(
                self._recipe, self._todo(show), self._stop, engine=job.engine, address=job.address, workers=job.workers
            )
            for part, embedded in results:
                self._save(part, embedded)
                self._count(part, show)
        self._check_stop()
        self._store.expect_end(self._parts, self.rows)

    def finished(self) -> Iterator[tuple[Stored, npt.NDArray[np.float32]]]:
        """All parts in the order of the rows."""
        for number in range(self._parts):
            self._check_stop()
            stored, vectors = self._store.load(number)
            self.truncated += stored.truncated
            yield stored, vectors

    def _todo(self, show: Show) -> Iterator[Part]:
        """The parts that the store lacks."""
        for part in parts_of(self._rows(), self._job.part_rows):
            if self._stop:
                return
            self._parts += 1
            if self._store.resumed and self._store.find(part):
                self.earlier += len(part.rows)
                self._count(part, show)
            else:
                yield part

    def _count(self, part: Part, show: Show) -> None:
        self._done += len(part.rows)
        share = self._job.corpus.share_read()
        ahead = self._done / self.rows  # some rows have been read and wait
        show(State(self._done, self._done - self.earlier, None if share is None else share * ahead))

    def _rows(self) -> Iterator[Row]:
        for row in self._stop.until(self._job.corpus.rows()):
            if row.text is None:
                self._tell_bad(row)
            self.rows += 1
            yield row

    def _tell_bad(self, row: Row) -> None:
        told = f"{self._job.corpus.name}: {row.place}: {row.fault}"
        if self._job.on_error == "fail":
            raise ValueError(f'{told} (on_error="skip" goes on without such rows)')
        self.skipped += 1
        if self.skipped <= _MOST_REPORTS:
            self._job.report(told)
        elif self.skipped == _MOST_REPORTS + 1:
            self._job.report("more bad rows are counted and not listed")

    def _save(self, part: Part, embedded: Embedded) -> None:
        if embedded.checkpoint != self._recipe.checkpoint:
            raise ValueError(f"a worker's files of {self._recipe.model} differ from those on this machine")
        self._store.save(part, embedded)

    def _check_stop(self) -> None:
        if self._stop:
            raise Stopped(self._stop.signal, kept=self._store.has_parts())
