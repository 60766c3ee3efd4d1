"""The samples of two runs side by side."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .table import ClassProbability, Table

_CLASSES = ("target", "prediction", "likely", "suspect_label")
_COMPARED = ("target_probability", "score")
CHANGE = "change"
OTHER = ".other"  # with which the names of the other run's columns end


def compare(table: Table, other: Table) -> Table:
    """Return the samples of two tables that are in both, by id.

    Args:
        table: of a run, whose order and names of classes the result has.
        other: of another run; its columns are called ``loss.other`` and so on. Its class numbers become those of the
            first where both have names for them; of a class that the first does not have, the number is unknown.
            ``change`` is by how much more the first run gives to the truth, or its score is larger.
    """
    place = pc.index_in(table.ids, value_set=other.ids.cast(table.ids.type))
    rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
    theirs = place.take(pa.array(rows)).to_numpy()
    columns = {name: values[rows] for name, values in table.columns.items()}
    for name, values in other.columns.items():
        if name != "index":
            of = values[theirs]
            columns[f"{name}{OTHER}"] = _renumbered(of, table, other) if name in _CLASSES else of
    columns[f"index{OTHER}"] = other.columns["index"][theirs]
    for score in (one for one in _COMPARED[::-1] if one in columns and f"{one}{OTHER}" in columns):
        columns[CHANGE] = columns[score] - columns[f"{score}{OTHER}"]  # by the first of them
    findings = None
    if table.findings is not None:
        named = {row: int(np.searchsorted(rows, row)) for row in table.findings}
        findings = {to: table.findings[row] for row, to in named.items() if to < len(rows) and rows[to] == row}
    ids = table.ids.take(pa.array(rows))
    return replace(
        table,
        ids=ids,
        columns=columns,
        findings=findings,
        class_probability=_of_rows(table, rows),
        _kept={},
        _lowered=[],
    )


def _of_rows(table: Table, rows: np.ndarray) -> ClassProbability | None:
    """Return the mean probability of a class in the first run, of the samples that are in both."""
    whole = table.class_probability
    if whole is None:
        return None

    def of_class(number: int) -> tuple[np.ndarray, np.ndarray]:
        known, most = whole(number)
        return known[rows], most[rows]

    return of_class


def _renumbered(values: np.ndarray, table: Table, other: Table) -> np.ndarray:
    """Return class numbers of the other run as those of the first."""
    if table.classes is None or other.classes is None or table.classes == other.classes:
        return values
    number_of = {name: number for number, name in enumerate(table.classes)}
    numbers = np.array([number_of.get(name, -1) for name in other.classes] + [-1], np.int32)
    return numbers[np.where((values >= 0) & (values < len(other.classes)), values, len(other.classes))]
