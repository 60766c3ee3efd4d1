"""Marks of samples that a person has looked at, as a CSV file: wrong labels, and what to skip or to look at again."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import UsageError, unknown_name
from ..support.atomic_files import naming

HEADER = ("loader", "sample_id", "mark", "label")
WRONG_LABEL, SKIP, LOOK_AGAIN = "wrong_label", "skip", "look_again"
MARKS = (WRONG_LABEL, SKIP, LOOK_AGAIN)
TAKEN_BACK = ""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # which a spreadsheet would run
_WAIT_S = 30  # for another writer, which needs some milliseconds


@dataclass(frozen=True)
class Mark:
    """A mark of a sample.

    Attributes:
        loader: key of the loader that the sample belongs to.
        sample_id: its id, as text.
        mark: one of ``MARKS``, or ``TAKEN_BACK``, which removes the sample's mark.
        label: its right class, by name or number; empty: not known.

    Raises:
        UsageError: the mark is unknown, or loader or id are empty.
    """

    loader: str
    sample_id: str
    mark: str
    label: str = ""

    def __post_init__(self) -> None:
        for name in ("loader", "sample_id"):
            if not getattr(self, name):
                raise UsageError(f"a mark needs a {name}, and it is empty.")
        if self.mark not in (*MARKS, TAKEN_BACK):
            raise unknown_name("mark", self.mark, MARKS)


def read_marks(path: str | os.PathLike[str]) -> list[Mark]:
    """Return the marks in a file, in the order in which their samples were first marked.

    The last line of a sample counts; one with an empty mark takes the sample's mark back. An apostrophe at the begin of
    a cell, before what a spreadsheet would take for a formula, is none of its text.

    Args:
        path: of a CSV file in UTF-8 with the columns ``loader``, ``sample_id``, ``mark`` and ``label``.

    Raises:
        UsageError: the file is not there, or a line of it is wrong; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file of marks {str(path)!r}.")
    with _locked_to_read(path):
        data = path.read_bytes()
    found: dict[tuple[str, str], Mark] = {}
    for mark in _parsed(path, data):
        found[mark.loader, mark.sample_id] = mark
    return [mark for mark in found.values() if mark.mark != TAKEN_BACK]


def add_marks(path: str | os.PathLike[str], marks: Sequence[Mark]) -> None:
    """Append marks to a file, which is made if it is not there.

    Several threads and processes may do so at once: each appends its lines whole, while it holds a lock on a hidden
    file beside ``path``. Where a write fails, nothing of it stays.

    Args:
        path: of the file; see ``read_marks``.
        marks: to append, one line each.

    Raises:
        UsageError: the file is there, and is no file of marks; or another process holds the lock for 30 seconds.
        OSError: the file cannot be written.
    """
    path = Path(path)
    with naming(path), _lock(path), open(path, "a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        first = file.readline().decode("utf-8-sig", "replace").rstrip("\r\n")
        if size and first.replace('"', "") != ",".join(HEADER):
            raise _not_marks(path, 1, f"the first line must be {','.join(HEADER)}, got {first[:100]!r}")
        lines = _lines([astuple(mark) for mark in marks] if size else [HEADER, *map(astuple, marks)])
        if size:
            file.seek(-1, os.SEEK_END)
            # An editor may have left the last line without an end.
            lines = lines if file.read(1) == b"\n" else b"\n" + lines
        _append(file, size, lines)


def _append(file: io.RawIOBase, size: int, data: bytes) -> None:
    try:
        rest = memoryview(data)
        while len(rest):
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    except OSError:
        file.truncate(size)
        raise


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [f"'{cell}" if _looks_like_formula(cell) else cell for cell in row]
        # Python before 3.13 does not quote a carriage return, at which readers break the row.
        (quoted if any("\r" in cell for cell in cells) else plain).writerow(cells)
    # Ids from JSON and from names of files may hold lone surrogates, which UTF-8 does not have.
    return text.getvalue().encode("utf-8", "surrogatepass")


def _parsed(path: Path, data: bytes) -> Iterator[Mark]:
    try:
        text = data.decode("utf-8", "surrogatepass").removeprefix("\ufeff")  # which spreadsheets write
    except UnicodeDecodeError as error:
        raise _not_marks(path, data[: error.start].count(b"\n") + 1, "it is not UTF-8") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if (header := next(rows, [])) != list(HEADER):
            got = ",".join(header)[:100]
            raise _not_marks(path, 1, f"the first line must be {','.join(HEADER)}, got {got!r}")
        before = rows.line_num
        for row in rows:
            first, before = before + 1, rows.line_num
            if not row:
                continue
            if len(row) != len(HEADER):
                raise _not_marks(path, first, f"it must have {len(HEADER)} cells, got {len(row)}")
            try:
                yield Mark(*(_plain(cell) for cell in row))
            except UsageError as error:
                raise _not_marks(path, first, str(error).removesuffix(".")) from error
    except csv.Error as error:
        raise _not_marks(path, rows.line_num, str(error)) from error


def _looks_like_formula(cell: str) -> bool:
    # An apostrophe of the text itself gets a second one, so that one can be taken away again.
    return cell.lstrip("'").startswith(_FORMULA_STARTS) and not _is_number(cell)


def _plain(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA_STARTS) else cell


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _not_marks(path: Path, line: int, why: str) -> UsageError:
    return UsageError(f"{path}, line {line}: {why}.")


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    lock = FileLock(_lock_path(path), timeout=_WAIT_S)
    try:
        with lock:
            yield
    except Timeout as error:
        raise UsageError(f"{path} is in use by another process: wait until it has ended, or end it.") from error


@contextmanager
def _locked_to_read(path: Path) -> Iterator[None]:
    # Without a lock file nobody has written; in a folder that cannot be written nobody does.
    may_be_written = _lock_path(path).exists() and os.access(path.parent, os.W_OK)
    with _lock(path) if may_be_written else nullcontext():
        yield


def _lock_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
