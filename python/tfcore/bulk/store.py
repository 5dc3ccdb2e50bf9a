"""The working folder of a job, hidden beside its output: a lock, a manifest, and one file a finished part.

A file appears under its name complete or not at all, and is on the disk before it appears: a process may be killed at
any moment, and what is there can be trusted.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from .recipe import Embedded
from .rows import Part

_MANIFEST, _LOCK, _PART = "manifest.json", "lock", "part-{:08d}"


class Stored(NamedTuple):
    """What the first line of a part's file says; `vectors` follow as bytes, one for each row that is not bad."""

    first: int
    rows: int
    bad: list[int]
    dim: int
    truncated: int
    digest: str
    crc: int

    @property
    def good(self) -> int:
        return self.rows - len(self.bad)


class Store:
    """The working folder, locked by this process. `resumed` says whether an earlier run's parts are in it."""

    def __init__(self, folder: Path, resumed: bool) -> None:
        self.folder = folder
        self.resumed = resumed

    @classmethod
    @contextmanager
    def open(cls, output: Path, job: dict[str, Any], *, force: bool) -> Iterator[Store]:
        """The store of the job that writes `output`, new or taken up again.

        Raises
        ------
        BlockingIOError
            Another process works on the same output.
        FileExistsError
            The output is there already, and no unfinished job.
        ValueError
            The unfinished job in the folder is another one.
        """
        folder = working_folder(output)
        with _locked(folder, output):
            manifest = folder / _MANIFEST
            earlier = None if force else _read_manifest(manifest, output)
            if earlier is None:
                _clear(folder)
                if output.exists() and not force:
                    raise FileExistsError(f"{output}: is there already; force=True writes it anew")
                with replacing(manifest) as file:
                    file.write(json.dumps(job, indent=2).encode())
            else:
                _check_same_job(earlier, job, output)
            yield cls(folder, earlier is not None)

    def has_parts(self) -> bool:
        return _has_parts(self.folder)

    def find(self, part: Part) -> Stored | None:
        """The record of a part that is done; None for one that is not.

        Raises
        ------
        ValueError
            The part on the disk was made of other rows.
        """
        try:
            with self._path(part.number).open("rb") as file:
                stored = self._read_head(file)
        except FileNotFoundError:
            return None
        if (stored.first, stored.rows, stored.digest) != (part.first, len(part.rows), part.digest()):
            raise ValueError(
                f"rows {part.first + 1} to {part.first + len(part.rows)} are not those that an earlier run read: "
                "give the same input to go on, or force=True to start anew"
            )
        return stored

    def expect_end(self, parts: int, rows: int) -> None:
        """Raises ValueError where an earlier run has done more parts than there are."""
        last = max(self.folder.glob("part-*[0-9]"), default=None)
        if last is not None and int(last.name.removeprefix("part-")) >= parts:
            raise ValueError(
                f"the input ends after row {rows}, where an earlier run read on: give the same input to go on, or "
                "force=True to start anew"
            )

    def save(self, part: Part, embedded: Embedded) -> None:
        vectors, truncated, _ = embedded
        raw = vectors.tobytes()
        crc = zlib.crc32(raw)
        stored = Stored(part.first, len(part.rows), part.bad, vectors.shape[1], truncated, part.digest(), crc)
        with replacing(self._path(part.number)) as file:
            file.write(json.dumps(stored._asdict()).encode() + b"\n")
            file.write(raw)

    def load(self, number: int) -> tuple[Stored, npt.NDArray[np.float32]]:
        """A part that is done, and its vectors (good rows, dim)."""
        path = self._path(number)
        with path.open("rb") as file:
            stored, raw = self._read_head(file), file.read()
        if zlib.crc32(raw) != stored.crc:
            raise self._damaged(path)
        return stored, np.frombuffer(raw, np.float32).reshape(stored.good, stored.dim)

    def remove(self) -> None:
        """Done with. The manifest goes first: what a kill leaves then is never taken for an unfinished job."""
        (self.folder / _MANIFEST).unlink()
        _remove(self.folder)

    def _read_head(self, file: BinaryIO) -> Stored:
        try:
            return Stored(**json.loads(file.readline()))
        except (TypeError, ValueError):
            raise self._damaged(Path(file.name)) from None

    def _damaged(self, path: Path) -> ValueError:
        path.unlink()
        return ValueError(f"{path}: damaged, and removed: run the same job again to compute it anew")

    def _path(self, number: int) -> Path:
        return self.folder / _PART.format(number)


def working_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.tfcore")


def followed(path: Path) -> Path:
    """Where a link leads: what it stands for is to be replaced, and not the link."""
    return path.resolve() if path.is_symlink() else path


@contextmanager
def replacing(path: Path, unfinished: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` once it is complete and on the disk; until then it is `unfinished`."""
    unfinished = unfinished or path.with_name(path.name + ".unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _put_in_place(finished: Path, path: Path) -> None:
    """Renames, for good: also the folder's entry is on the disk afterwards."""
    finished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """The folder, for this process alone: made where it is missing, and removed where no part is in it at the end.

    The system drops a dead process's lock.
    """
    while True:
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise FileNotFoundError(f"{output}: there is no folder {folder.parent} to write to") from None
        try:
            lock = (folder / _LOCK).open("a+")
        except FileNotFoundError:
            continue  # another process has just removed the folder
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise BlockingIOError(f"{output}: process {lock.read() or '?'} is working on it") from None
            if not _is_at(lock.fileno(), folder / _LOCK):
                continue  # locked a file that another process had just removed
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                if _is_at(lock.fileno(), folder / _LOCK) and not _has_parts(folder):
                    _remove(folder)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _has_parts(folder: Path) -> bool:
    return any(folder.glob("part-*"))


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK:
            path.unlink()


def _remove(folder: Path) -> None:
    _clear(folder)
    (folder / _LOCK).unlink()
    with suppress(OSError):  # not empty: another process has just taken the folder over
        folder.rmdir()


def _read_manifest(path: Path, output: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: damaged; force=True starts {output.name} anew")
    return content


def _check_same_job(earlier: dict[str, Any], job: dict[str, Any], output: Path) -> None:
    for name in sorted(earlier.keys() | job.keys()):
        if earlier.get(name) != job.get(name):
            raise ValueError(
                f"{output}: an unfinished run is kept, but its {name} was {json.dumps(earlier.get(name))} and is now "
                f"{json.dumps(job.get(name))}: give the same input and options to go on, or force=True to start anew"
            )
