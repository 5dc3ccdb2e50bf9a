"""The parts of a finished job as one file, written part by part in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..extras import extra
from .store import Stored

Parts = Iterable[tuple[Stored, npt.NDArray[np.float32]]]


class Shape(NamedTuple):
    """Of all rows, the bad ones included."""

    rows: int
    dim: int


def write_npy(file: BinaryIO, parts: Parts, shape: Shape) -> None:
    """(rows, dim) float32. Row i belongs to row i of the corpus: that of a bad row is NaN."""
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for stored, vectors in parts:
        rows = vectors
        if stored.bad:
            rows = np.full((stored.rows, stored.dim), np.nan, np.float32)
            rows[_good_rows(stored)] = vectors
        file.write(np.ascontiguousarray(rows, "<f4").data)


def write_parquet(file: BinaryIO, parts: Parts, shape: Shape) -> None:
    """Columns `row`, the row's number in the corpus from 0, and `embedding`, dim float32. Bad rows are left out."""
    arrow, parquet = require_parquet()
    schema = arrow.schema([("row", arrow.int64()), ("embedding", arrow.list_(arrow.float32(), shape.dim))])
    with parquet.ParquetWriter(file, schema) as writer:
        for stored, vectors in parts:
            if stored.good:
                numbers = arrow.array(stored.first + _good_rows(stored), arrow.int64())
                values = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), shape.dim)
                writer.write_table(arrow.table([numbers, values], schema=schema))


def require_parquet() -> tuple[Any, Any]:
    purpose = "writing Parquet"
    return extra("pyarrow", "parquet", purpose), extra("pyarrow.parquet", "parquet", purpose)


def _good_rows(stored: Stored) -> npt.NDArray[np.intp]:
    return np.setdiff1d(np.arange(stored.rows), stored.bad)


_WRITERS: dict[str, Callable[[BinaryIO, Parts, Shape], None]] = {
    ".npy": write_npy,
    ".parquet": write_parquet,
    ".pq": write_parquet,
}


def writer_for(output: Path) -> Callable[[BinaryIO, Parts, Shape], None]:
    """The function that writes what the file's name ends in."""
    writer = _WRITERS.get(output.suffix.lower())
    if writer is None:
        raise ValueError(f"{output}: expected a name that ends in {', '.join(_WRITERS)}")
    if writer is write_parquet:
        require_parquet()
    return writer
