"""A table of predictions that a spreadsheet may open."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .atomic_files import replacing
from .printable import printable

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Table:
    """Takes the rows of a table; ``write_table`` makes it."""

    def __init__(self, file: TextIO):
        self._rows = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def add(self, row: Iterable[str]) -> None:
        """Add a row."""
        cells = [cell(text) for text in row]
        rows = self._quoted if any("\r" in text for text in cells) else self._rows  # Python before 3.13 forgets it
        rows.writerow(cells)


@contextmanager
def write_table(path: Path, header: Iterable[str]) -> Iterator[Table]:
    """Write a CSV file in UTF-8; it is whole when the block ends."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = Table(file)
        table.add(header)
        yield table


def cell(text: str) -> str:
    """Return the text of a cell: an apostrophe stands before what a spreadsheet would take for a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()
