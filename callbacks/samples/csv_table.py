"""CSV files that a spreadsheet can open without taking names for formulas."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..support.atomic_files import replacing
from ..support.printable import printable

# What spreadsheets take for the start of a formula, which they would run when the file is opened.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class Table:
    """The rows of a table that is being written; made by ``write_table``."""

    def __init__(self, file: TextIO):
        self._rows = csv.writer(file, lineterminator="\n")
        self._quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def add(self, row: Iterable[str]) -> None:
        """Add a row."""
        cells = [cell(text) for text in row]
        # Python before 3.13 does not quote a carriage return, at which readers break the row.
        rows = self._quoted if any("\r" in text for text in cells) else self._rows
        rows.writerow(cells)


@contextmanager
def write_table(path: Path, header: Iterable[str]) -> Iterator[Table]:
    """Write a CSV file in UTF-8; it appears under its name when the block ends without an error."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        table = Table(file)
        table.add(header)
        yield table


def cell(text: str) -> str:
    """Return the text of a cell, with an apostrophe before what a spreadsheet would take for a formula."""
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    # Python also reads a number with white space around it.
    return text == text.strip()
