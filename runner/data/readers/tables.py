"""Read tables of text, CSV and its kin, with the line of each row.

By Python's own ``csv``: it says in which line a row ends, which a data frame's reader does not.
"""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from assay.callbacks.errors import UsageError, listing, unknown_name

from .class_names import read_text
from .folder_tree import split_of

TABLE_SUFFIXES = (".csv", ".tsv")

_DELIMITERS = (",", ";", "\t")
_LOOKED_AT = 100  # rows by which the delimiter is found
_MOST_SHARED = 10_000  # texts that cells share


@dataclass
class Table:
    """A table: its header, its rows as long as that, and the line in which each begins.

    Attributes:
        path: the file.
        header: names of the columns, each once.
        rows: the cells as text, without spaces around them.
        lines: of the rows in the file, from 1 on.
        problems: rows that were left out.
    """

    path: Path
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name, with its folder where that is a part of a split: each part may have a file of that name."""
        folder = self.path.parent.name
        return f"{folder}/{self.path.name}" if split_of(folder) else self.path.name

    def where(self, row: int) -> str:
        """Return how a row is named in a message, such as "labels.csv, line 7"."""
        return f"{self.name}, line {self.lines[row]}"

    def column(self, name: str) -> list[str]:
        """Return the cells of a column.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self.header:
            raise unknown_name(f"column of {self.path}", name, self.header)
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def find(self, *names: str) -> str | None:
        """Return the first of some names that is a column: in any case, with spaces or dashes for underscores."""
        plain = {plain_name(column): column for column in reversed(self.header)}
        return next((plain[name] for name in names if name in plain), None)


def read_table(path: str | os.PathLike[str], header: Sequence[str] | None = None, *, most: int | None = None) -> Table:
    """Read a table whose cells are separated by commas, semicolons or tabs, and may be quoted.

    Args:
        path: the file, in UTF-8 or UTF-16.
        header: names of the columns, for a file that begins with its first row.
        most: rows to read; None: all.

    Raises:
        UsageError: it is no text, its quotes do not match, or it is empty.
    """
    path = Path(path)
    text = read_text(path)
    delimiter, text, skipped = _find_delimiter(text)
    rows = _numbered_rows(path, text, delimiter, skipped)
    _, names = (0, list(header)) if header is not None else next(rows, (0, []))
    if not names:
        raise UsageError(f"{path} is empty.")
    names = [name or f"column {place}" for place, name in enumerate(names, 1)]
    if len(set(names)) < len(names):
        raise UsageError(f"{path}, line {1 + skipped}: a column is named twice: {listing(names)}.")
    table = Table(path, names)
    for line, row in islice(rows, most):
        if len(row) != len(names):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            table.problems.append(f"{table.name}, line {line}: {cells} in place of {len(names)}; left out")
            continue
        table.rows.append(row)
        table.lines.append(line)
    return table


def tables_in(folder: Path) -> list[Path]:
    """Return the files of a folder whose suffix is that of a table, without hidden ones, sorted; none of no folder."""
    names = os.listdir(folder) if folder.is_dir() else []  # no paths: there may be a million images beside
    return [folder / name for name in sorted(names) if name.lower().endswith(TABLE_SUFFIXES) and name[0] != "."]


def plain_name(name: str) -> str:
    """Return the name of a column in lower case, with underscores for spaces and dashes."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _numbered_rows(path: Path, text: str, delimiter: str, skipped: int) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    before = 0
    known: dict[str, str] = {}  # labels repeat: the same text again is the same object
    try:
        for row in reader:
            line, before = before + 1 + skipped, reader.line_num
            if any(row):
                yield line, [_shared(cell.strip(), known) for cell in row]
    except csv.Error as error:
        raise UsageError(f"{path}, line {before + 1 + skipped}: {error}.") from error


def _shared(cell: str, known: dict[str, str]) -> str:
    return known.setdefault(cell, cell) if len(known) < _MOST_SHARED else known.get(cell, cell)


def _find_delimiter(text: str) -> tuple[str, str, int]:
    """Return the delimiter, the text of the table, and how many lines before it were skipped."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # a spreadsheet's own note
        return first.strip()[4], rest, 1
    # The one by which the first rows have most cells, and all the same number: a guess by frequency, as csv.Sniffer's,
    # takes any letter.
    return max(_DELIMITERS, key=lambda one: _fitness(text, one)), text, 0


def _fitness(text: str, delimiter: str) -> tuple[bool, float, int]:
    head = "\n".join(text.split("\n", _LOOKED_AT)[:_LOOKED_AT])
    try:
        rows = [row for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]
    except csv.Error:
        return False, 0.0, 0
    cells = len(rows[0]) if rows else 0
    return cells > 1, sum(len(row) == cells for row in rows) / max(1, len(rows)), cells
