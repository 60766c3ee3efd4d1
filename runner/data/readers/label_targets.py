"""Turn the cells of a table's label columns into classes, labels, or yes and no."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.callbacks.errors import UsageError

from .class_names import CLASSES, in_order, match_names, read_class_names
from .tables import plain_name

LABEL_COLUMNS = (
    "label_name", "class_name", "category_name", "labels", "label", "tags", "tag", "classes", "class", "categories",
    "category", "targets", "target", "species",
)  # fmt: skip
"""Customary names of the column that holds labels."""

FLAGS = {"1": 1, "1.0": 1, "true": 1, "yes": 1, "0": 0, "0.0": 0, "false": 0, "no": 0}
"""What stands for yes and no in a table, in lower case."""
_EMPTY, _OTHER = 2, 3
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
    """Whether a text says yes or no: 1, 0, true, false."""
    return cell.lower() in FLAGS


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
    has_flags = sum(map(is_flag, column)) > len(column) / 2
    if others or (has_flags and plain_name(name) not in LABEL_COLUMNS):
        found = _read_flags(cells, where, problems)
    elif separator := separator or _find_separator(name, column):
        parts = [[part.strip() for part in cell.split(separator) if part.strip()] for cell in column]
        found = _read_lists(parts, path.parent / CLASSES, where, problems)
    else:
        found = _read_classes(name, column, path, where, problems)
    if not found.kept:
        raise UsageError(f"{path} has no row with a label: {problems[-1]}.")
    return found


def _find_separator(name: str, column: Sequence[str]) -> str | None:
    """Return what separates labels in the cells of a column; None if each holds one."""
    for separator in "|;":
        if any(separator in cell for cell in column):
            return separator
    whole = set(column) - {""}
    for separator in ", ":
        parts = {part.strip() for cell in whole for part in cell.split(separator)}
        # The name of a class may hold a comma or a space; labels are fewer than their combinations.
        if len(parts) < len(whole) and (separator == "," or name.lower() in _PLURALS):
            return separator
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
            f"{path}: column {name!r} has {len(counts):,} values in {len(column):,} rows, which are no classes."
        )
    names, target_of = _names_and_numbers(set(counts), path.parent / CLASSES)
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
