"""Turn the cells of a table's label columns into classes, labels, or yes and no."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.callbacks.errors import UsageError

from .class_names import CLASSES, alike, in_order, match_names, read_class_names
from .tables import plain_name

LABEL_COLUMNS = (
    "label_name", "class_name", "category_name", "labels", "label", "tags", "tag", "classes", "class", "categories",
    "category", "targets", "target", "species",
)  # fmt: skip
"""Customary names of the column that holds labels."""

FLAGS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "y": 1, "x": 1, "0": 0, "0.0": 0, "false": 0, "no": 0, "n": 0}
"""What stands for yes and no in a table, in lower case."""
SEPARATORS = "|;, "
"""What may be between labels in a cell; the last two are also in names."""
_EMPTY, _OTHER = 2, 3
_ABOVE_ONE = re.compile(r"([2-9]|[1-9]\d+)(\.0+)?")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")
_MANY = 20  # rows, from which on classes that are more than half as many are a mistake
_PLURALS = ("labels", "tags", "classes", "categories", "targets", "attributes")


@dataclass(frozen=True)
class Targets:
    """Targets of the rows of a table.

    Attributes:
        task: "multiclass", "multilabel" or "binary".
        names: of the classes or labels.
        values: int64 [N] of classes or of 0 and 1; float32 [N, C] of 0 and 1 for multilabel.
        kept: the rows that have a target, [N].
    """

    task: str
    names: Sequence[str]
    values: np.ndarray
    kept: Sequence[int]


def is_flag(cell: str) -> bool:
    """Whether a text says yes or no: 1, 0, true, false, y, n, or a mark: x."""
    return cell.lower() in FLAGS


def holds_flags(cells: Sequence[str]) -> bool:
    """Whether a single column says yes or no: most cells do, and none is a whole number above 1, as classes are."""
    return sum(map(is_flag, cells)) > len(cells) / 2 and not any(map(_ABOVE_ONE.fullmatch, set(cells)))


def read_targets(
    cells: Mapping[str, Sequence[str]],
    path: Path,
    separator: str | None,
    *,
    where: Callable[[int], str],
    problems: list[str],
) -> Targets:
    """Return the targets of a table; see ``read_label_table``.

    Args:
        cells: of one column of labels, or of one per label, by name.
        path: the table; ``classes.txt`` beside it names the classes.
        separator: of several labels in a cell; None: it is found.
        where: names a row in a problem.
        problems: rows without a target are added to it.

    Raises:
        UsageError: no row has a target, or there are too many classes.
    """
    (name, column), *others = cells.items()
    if others or (plain_name(name) not in LABEL_COLUMNS and holds_flags(column)):
        found = _read_flags(cells, where, problems)
    elif parts := _split_cells(name, column, path, separator, problems):
        found = _read_lists(parts, path.parent / CLASSES, where, problems)
    else:
        found = _read_classes(name, column, path, where, problems)
    if not found.kept:
        raise UsageError(f"{path} has no row with a label: {problems[-1]}.")
    return found


def _split_cells(
    name: str, column: Sequence[str], path: Path, separator: str | None, problems: list[str]
) -> list[list[str]] | None:
    """Return the labels in each cell of a column; None if each cell holds one."""
    if separator is None and any(column) and all(is_written_list(cell) for cell in column if cell):
        return [written_list(cell) for cell in column]
    separator = separator or _find_separator(name, column, path, problems)
    if separator is None:
        return None
    return [[part.strip() for part in cell.split(separator) if part.strip()] for cell in column]


def is_written_list(cell: str) -> bool:
    """Whether a text is a list in brackets."""
    return cell[:1] + cell[-1:] == "[]"


def written_list(cell: str) -> list[str]:
    """Return the entries of a list as JSON, Python or NumPy write it; without quotes, commas are between them."""
    try:
        return [str(entry) for entry in json.loads(cell or "[]")]
    except ValueError:
        quoted = [first or second for first, second in _QUOTED.findall(cell)]
        return quoted or [part.strip() for part in cell[1:-1].split(",") if part.strip()]


def _find_separator(name: str, column: Sequence[str], path: Path, problems: list[str]) -> str | None:
    """Return what separates labels in the cells of a column; None if each holds one."""
    for separator in SEPARATORS[:2]:
        if any(separator in cell for cell in column):
            return separator
    whole = set(column) - {""}
    for separator in SEPARATORS[2:]:
        parts = {part.strip() for cell in whole for part in cell.split(separator)}
        # The name of a class may hold a comma or a space; labels are fewer than their combinations.
        if len(parts) < len(whole) and (separator == "," or name.lower() in _PLURALS):
            return separator
        if separator == " " and any(" " in cell for cell in whole):
            if all(part.isascii() and part.isdecimal() for part in parts):
                return separator
            if len(parts) < len(whole):
                several = next(cell for cell in column if " " in cell)
                problems.append(f"{path.name}: {several!r} is one class; --label-separator ' ' makes two labels of it")
    return None


def _read_flags(cells: Mapping[str, Sequence[str]], where: Callable[[int], str], problems: list[str]) -> Targets:
    names = list(cells)
    codes = np.stack([_codes(column) for column in cells.values()], axis=1)
    if not (codes == 0).any():
        codes[codes == _EMPTY] = 0  # a table that marks what is there, and nothing else
    is_wrong = codes >= _EMPTY
    for row, place in zip(*np.nonzero(is_wrong), strict=True):
        problems.append(f"{where(row)}: {names[place]} is {cells[names[place]][row]!r}, neither 0 nor 1; left out")
    kept = np.flatnonzero(~is_wrong.any(axis=1))
    values = codes[kept]
    if len(names) == 1:
        return Targets("binary", [f"no {names[0]}", names[0]], values[:, 0].astype(np.int64), kept.tolist())
    if (values.sum(axis=1) == 1).all():
        return Targets("multiclass", names, values.argmax(axis=1), kept.tolist())
    return Targets("multilabel", names, values.astype(np.float32), kept.tolist())


def _codes(column: Sequence[str]) -> np.ndarray:
    code_of = {cell: FLAGS.get(cell.lower(), _OTHER if cell else _EMPTY) for cell in set(column)}
    return np.fromiter(map(code_of.__getitem__, column), dtype=np.int8, count=len(column))


def _read_lists(
    parts: Sequence[Sequence[str]], file: Path, where: Callable[[int], str], problems: list[str]
) -> Targets:
    names, target_of = _names_and_numbers({part for row in parts for part in row}, file)
    problems += alike(names)
    kept = []
    for row, labels in enumerate(parts):
        if unknown := [label for label in labels if label not in target_of]:
            problems.append(f"{where(row)}: label {unknown[0]!r} is not in {file.name}; left out")
        else:
            kept.append(row)
    values = np.zeros((len(kept), len(names)), dtype=np.float32)
    for place, row in enumerate(kept):
        values[place, [target_of[label] for label in parts[row]]] = 1
    return Targets("multilabel", names, values, kept)


def _read_classes(
    name: str, column: Sequence[str], path: Path, where: Callable[[int], str], problems: list[str]
) -> Targets:
    counts = Counter(cell for cell in column if cell)
    if len(column) >= _MANY and len(counts) > len(column) / 2:
        raise UsageError(
            f"{path}: column {name!r} has {len(counts):,} values in {len(column):,} rows, which are no classes; where "
            "a cell holds several labels, give label_separator."
        )
    names, target_of = _names_and_numbers(set(counts), path.parent / CLASSES)
    problems += alike(names)
    kept = []
    for row, cell in enumerate(column):
        if cell in target_of:
            kept.append(row)
        else:
            why = f"label {cell!r} is not in {CLASSES}" if cell else "the label is missing"
            problems.append(f"{where(row)}: {why}; left out")
    values = np.fromiter((target_of[column[row]] for row in kept), dtype=np.int64, count=len(kept))
    return Targets("multiclass", names, values, kept)


def _names_and_numbers(found: set[str], file: Path) -> tuple[Sequence[str], Mapping[str, int]]:
    """Return the names of the classes, and the number of each text that stands for one."""
    if not file.is_file():
        names = in_order(found)
        return names, {name: number for number, name in enumerate(names)}
    names = read_class_names(file)
    return names, match_names(file.name, names, in_order(found))
