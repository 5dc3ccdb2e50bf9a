"""Corpora as rows, one at a time: lines of text, JSON, CSV and Parquet.

A row that cannot be read is a row with a fault, so the rows after it keep their numbers. What concerns the whole file
(no such column, UTF-16) is an error at once.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..extras import extra
from ..locks import ProcessLock
from ..scalars import check_choice
from .edges import size_and_edges
from .rows import Row

FORMATS = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
KINDS = tuple(dict.fromkeys(FORMATS.values()))
MOST_LINE = 1 << 24  # bytes: a longer line is a bad row, so that memory stays bounded in a file of one endless line
_TOO_LONG = "\udc00"  # stands for such a line in CSV; no bytes decode to it
_BATCH = 256  # rows that are taken out of a Parquet file at a time


class Corpus:
    """A file, or standard input as "-", and how to read it.

    Parameters
    ----------
    source : str or path
        A file's name, or "-".
    kind : str, optional
        txt, jsonl, csv, tsv or parquet. Default: what the name ends in; txt for standard input.
    field : str, optional
        The member or column with the text. Default: "text", or a file's only column.

    Attributes
    ----------
    column : str or None
        The column that rows are read from, once one has been: a file without a header is known by it.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    TypeError
        An argument is of another kind.
    ValueError
        The format is unknown, or cannot be had from standard input, or has no fields.
    """

    def __init__(self, source: str | os.PathLike[str], kind: str | None = None, field: str | None = None) -> None:
        if not isinstance(source, str | os.PathLike):
            raise TypeError(f"source is {type(source).__name__}, expected a file's name")
        self.source = source = os.fspath(source)
        self.name = "standard input" if source == "-" else source
        self.piped = source == "-" or (os.path.exists(source) and not os.path.isfile(source) | os.path.isdir(source))
        if not self.piped and not os.path.isfile(source):
            found = "is a folder" if os.path.isdir(source) else "no such file"
            raise FileNotFoundError(f"{source or 'an empty name'}: {found}, expected a corpus")
        if kind is not None:
            check_choice("kind", kind, KINDS)
        self.kind = kind or ("txt" if source == "-" else FORMATS.get(Path(source).suffix.lower(), ""))
        self.field = field
        if not self.kind:
            raise ValueError(f'{source}: expected a name that ends in {", ".join(FORMATS)}, or kind="txt"')
        if self.piped and self.kind == "parquet":
            raise ValueError(f"{self.name}: Parquet cannot be read from a pipe, only from a file")
        if self.kind == "txt" and field is not None:
            raise ValueError(f"field is {field!r}, but lines of text have no fields")
        self.column: str | None = None
        self._stream: Any = None
        self._share_read = 0.0

    def fingerprint(self) -> dict[str, Any]:
        """What tells the corpus from another without reading all of it: its size, beginning and end."""
        how = {"format": self.kind, "field": self.field}
        if self.piped:
            return {**how, "size": None, "edges": None}
        size, edges = size_and_edges(self.source)
        return {**how, "size": size, "edges": hashlib.sha256(edges).hexdigest()}

    def share_read(self) -> float | None:
        """How much of the corpus has been read, from 0 to 1; None where nobody knows."""
        if self.piped:
            return None
        if self._stream is not None and not self._stream.closed:
            self._share_read = self._stream.tell() / max(1, os.fstat(self._stream.fileno()).st_size)
        return self._share_read

    def rows(self) -> Iterator[Row]:
        """Every row, from the first."""
        if self.kind == "parquet":
            yield from self._parquet_rows()
            return
        with self._open() as stream:
            self._stream = stream
            lines = _lines(stream, self.name)
            if self.kind == "txt":
                for number, line, _ in lines:
                    yield _line_row(line and line.removesuffix(b"\r"), f"line {number}")
            elif self.kind == "jsonl":
                yield from _json_rows(lines, self.field or "text")
            else:
                yield from _csv_rows(lines, self.name, self._choose_column, "\t" if self.kind == "tsv" else ",")
            self._share_read = 1.0

    def _choose_column(self, columns: list[str]) -> str:
        self.column = _column(self.name, columns, self.field)
        return self.column

    def _open(self) -> BinaryIO:
        if self.source != "-":
            return open(self.source, "rb")
        if sys.stdin is None:
            raise OSError(f"{self.name} is closed")
        return open(os.dup(sys.stdin.fileno()), "rb")

    def _parquet_rows(self) -> Iterator[Row]:
        parquet = extra("pyarrow.parquet", "parquet", f"{self.name}: reading Parquet")
        arrow = extra("pyarrow", "parquet", "reading Parquet")
        try:
            file = parquet.ParquetFile(self.source)
        except arrow.ArrowException as error:
            raise ValueError(f"{self.name}: not a Parquet file that can be read ({error})") from error
        with file:
            column = self._choose_column(list(file.schema_arrow.names))
            kind = file.schema_arrow.field(column).type
            value = kind.value_type if arrow.types.is_dictionary(kind) else kind
            if not (arrow.types.is_string(value) or arrow.types.is_large_string(value) or str(value) == "string_view"):
                raise ValueError(f"{self.name}: column {column!r} holds {kind}, expected strings")
            number = 0
            for group in range(file.num_row_groups):
                expected = number + file.metadata.row_group(group).num_rows
                for texts in self._parquet_texts(arrow, file, group, column):
                    for raw in texts:
                        number += 1
                        yield _line_row(raw.as_py(), f"row {number}", missing="null")
                    self._share_read = number / max(1, file.metadata.num_rows)
                if number != expected:  # a damaged page may end the group early, with no word of it
                    raise ValueError(f"{self.name}: damaged: {number} rows up to row group {group}, not {expected}")

    def _parquet_texts(self, arrow: Any, file: Any, group: int, column: str) -> Iterator[Any]:
        """The column's texts in a row group as arrays of bytes, whatever type of string they are stored as."""
        batches = file.iter_batches(_BATCH, row_groups=[group], columns=[column])
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                texts = batch.column(column).cast(arrow.large_string()).cast(arrow.large_binary())
            except (arrow.ArrowException, OSError) as error:
                raise ValueError(f"{self.name}: damaged: row group {group} cannot be read ({error})") from error
            yield texts


# ---- lines


Line = tuple[int, bytes | None, int]  # number from 1, bytes up to the line feed, double quotes among them


def _lines(stream: BinaryIO, name: str) -> Iterator[Line]:
    """Of a line longer than MOST_LINE the bytes are None."""
    number = 0
    while line := stream.readline(MOST_LINE + 2):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{name}: is UTF-16, expected UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
            if not line:
                return
        content = line.removesuffix(b"\n")
        if len(content.removesuffix(b"\r")) <= MOST_LINE:
            yield number, content, content.count(b'"')
            continue
        quotes = line.count(b'"')
        while line and not line.endswith(b"\n"):
            line = stream.readline(MOST_LINE)
            quotes += line.count(b'"')
        yield number, None, quotes


def _line_row(raw: bytes | None, place: str, missing: str = f"longer than {MOST_LINE >> 20} MiB") -> Row:
    if raw is None:
        return Row(None, place, missing)
    try:
        return Row(raw.decode(), place)
    except UnicodeDecodeError as error:
        return Row(None, place, f"not UTF-8 (byte {error.start + 1})")


def _value_row(value: Any, field: str, place: str) -> Row:
    if not isinstance(value, str):
        return Row(None, place, f"{field!r} is {type(value).__name__}, expected a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return Row(None, place, f"{field!r} is not Unicode (half a surrogate pair at character {error.start + 1})")
    return Row(value, place)


# ---- JSON, an object a line


def _json_rows(lines: Iterator[Line], field: str) -> Iterator[Row]:
    """Empty lines are not rows."""
    for number, raw, _ in lines:
        line = _line_row(raw, f"line {number}")
        if line.text is None:
            yield line
        elif line.text.strip():
            yield _json_row(line.text, field, line.place)


def _json_row(line: str, field: str, place: str) -> Row:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(None, place, f"not JSON ({error})")
    if not isinstance(content, dict):
        return Row(None, place, f"a JSON {type(content).__name__}, expected an object with {field!r}")
    if field not in content:
        return Row(None, place, f"has no {field!r}")
    return _value_row(content[field], field, place)


# ---- CSV, whose first row names the columns


def _csv_rows(
    lines: Iterator[Line], name: str, choose_column: Callable[[list[str]], str], delimiter: str
) -> Iterator[Row]:
    """Empty lines are not rows, quoted fields may run over lines; bytes that are not UTF-8 spoil their own field."""
    records = ((start, record) for start, record in _csv_records(lines, delimiter) if record)
    _, header = next(records, (0, None))
    if header is None:
        return
    if isinstance(header, str):
        raise ValueError(f"{name}: the header cannot be read ({header})")
    place = header.index(choose_column(header))
    for start, record in records:
        yield _csv_row(record, header, place, f"line {start}")


def _csv_records(lines: Iterator[Line], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The first line of each record, and its fields, or what is wrong with it."""
    reached, quotes, ended = 0, 0, False

    def read_text() -> Iterator[str]:
        nonlocal reached, quotes, ended
        for number, raw, own_quotes in lines:
            reached, quotes = number, quotes + own_quotes
            too_long = '"' * (own_quotes % 2) + _TOO_LONG  # opens or closes a field as the line did
            yield (too_long if raw is None else raw.decode(errors="surrogateescape")) + "\n"
        ended = True

    text = read_text()
    reader = csv.reader(text, delimiter=delimiter, strict=True)  # a stray quote would join rows
    while True:
        start, quotes = reached + 1, 0
        try:
            with _long_fields():
                record = next(reader, None)
        except csv.Error as error:
            yield start, "a quote is open at the end" if ended else str(error)
            while quotes % 2 and next(text, None) is not None:  # the rest of a field that was given up
                pass
            continue
        if record is None:
            return
        yield start, record


_field_size = ProcessLock()


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lends the process' setting of how long a field may be."""
    with _field_size.here:
        earlier = csv.field_size_limit(MOST_LINE)
        try:
            yield
        finally:
            csv.field_size_limit(earlier)


def _csv_row(record: list[str] | str, header: list[str], column: int, place: str) -> Row:
    if isinstance(record, str):
        return Row(None, place, f"not CSV ({record})")
    if any(record[len(header) :]):  # more delimiters alone lose nothing
        return Row(None, place, f"has {len(record)} fields, and the header {len(header)}")
    if any(_TOO_LONG in value for value in record):
        return Row(None, place, f"longer than {MOST_LINE >> 20} MiB")
    if column >= len(record):
        return Row(None, place, f"has {len(record)} fields, no {header[column]!r}")
    row = _line_row(record[column].encode(errors="surrogateescape"), place)
    return row if row.text is not None else row._replace(fault=f"{header[column]!r} is {row.fault}")


def _column(name: str, columns: list[str], field: str | None) -> str:
    """The column with the text: the one that is asked for, the only one, or "text"."""
    if field is None and len(columns) == 1:
        return columns[0]
    wanted = "text" if field is None else field
    if wanted not in columns:
        there = ", ".join(map(repr, columns))
        raise ValueError(f'{name}: there is no column {wanted!r} among {there}: give field="NAME"')
    if columns.count(wanted) > 1:
        raise ValueError(f"{name}: {columns.count(wanted)} columns are called {wanted!r}, expected one")
    return wanted
