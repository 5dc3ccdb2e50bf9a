"""Rows of a corpus, and the parts they are cut into.

Where a part ends depends on the rows alone, so a corpus that is read again falls into the same parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MOST_CHARACTERS = 1 << 22  # of a part: what bounds memory where rows are long


class Row(NamedTuple):
    """A text, or the reason why there is none, and where it stands in the corpus, in words."""

    text: str | None
    place: str
    fault: str = ""


class Part(NamedTuple):
    """Consecutive rows, the unit of work: `first` is the number of the first one, counted from 0."""

    number: int
    first: int
    rows: list[Row]

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows if row.text is not None]

    @property
    def bad(self) -> list[int]:
        """The places within the part of the rows that have no text."""
        return [place for place, row in enumerate(self.rows) if row.text is None]

    def digest(self) -> str:
        """A fingerprint of all that a part's vectors depend on, the model aside."""
        content = hashlib.sha256()
        for row in self.rows:
            raw = b"" if row.text is None else row.text.encode()
            content.update(b"%d %d\n" % (row.text is not None, len(raw)))
            content.update(raw)
        return content.hexdigest()


def parts_of(rows: Iterable[Row], most_rows: int) -> Iterator[Part]:
    """Parts of up to `most_rows` rows; one ends sooner once it holds MOST_CHARACTERS."""
    gathered: list[Row] = []
    number = first = characters = 0
    for row in rows:
        gathered.append(row)
        characters += len(row.text or "")
        if len(gathered) == most_rows or characters >= MOST_CHARACTERS:
            yield Part(number, first, gathered)
            number, first, characters, gathered = number + 1, first + len(gathered), 0, []
    if gathered:
        yield Part(number, first, gathered)
