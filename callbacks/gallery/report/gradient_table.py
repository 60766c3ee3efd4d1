"""The table of gradients of a run: a row per loader, epoch and parameter."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...samples.csv_table import Table, write_table
from ..numbers import json_number

GRADIENTS = "gradients.csv"
NUMBERS = ("norm", "min", "mean", "max", "std", "zeros", "non_finite", "update_ratio")
HEADER = ("loader", "epoch", "parameter", *NUMBERS, "trouble")
_SHOWN = ("std", "zeros", "update_ratio")  # beside the norm
_MOST_PARAMETERS = 400  # rows of a map
_MOST_EPOCHS = 60  # columns of a map


class GradientTable:
    """Adds epochs to the table; what a run that goes on from an earlier epoch had written after it is cut off.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._has_begun = False

    def add(self, epoch: int, rows: Sequence[Sequence[str]]) -> None:
        """Add the rows of an epoch, texts in the order of ``HEADER``."""
        if not self._has_begun:
            kept = [row for row in read_rows(self.path) if int(row["epoch"]) < epoch]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with write_table(self.path, HEADER) as table:
                for row in kept:
                    table.add([row.get(name) or "" for name in HEADER])
            self._has_begun = True
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            table = Table(file)
            for cells in rows:
                table.add(cells)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of the table by column; none where it is not there.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such table.
        KeyError: the same.
    """
    if not path.exists():
        return []
    # The last line may be half a line, where a run was killed.
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = list(csv.DictReader(io.StringIO(whole, newline="")))
    for row in rows:
        int(row["epoch"]), float(row["norm"]), row["loader"], row["parameter"]
    return rows


def gradient_maps(rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return for each loader what the page shows of its gradients, in the order of the rows.

    Returns:
        ``loader``; ``parameters`` [P] and ``left_out``, how many more there are; ``epochs`` [E] and
        ``epochs_left_out``; ``norms`` [P][E], None where there is none; ``others``, by name [P][E] each, rounded to
        four digits; and ``troubles``: parameter, epoch and what went wrong.
    """
    by_loader: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_loader.setdefault(row["loader"], []).append(row)
    return [_map(loader, of) for loader, of in by_loader.items()]


def _map(loader: str, rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    # A later row of the same epoch counts.
    cells = {(row["parameter"], int(row["epoch"])): row for row in rows}
    names = list(dict.fromkeys(name for name, _ in cells))
    epochs = sorted({epoch for _, epoch in cells})
    every = -(-len(epochs) // _MOST_EPOCHS)
    kept = epochs[::-1][::every][::-1]
    shown = names[:_MOST_PARAMETERS]

    def values(column: str, digits: int) -> list[list[Any]]:
        return [[_number(cells.get((name, epoch)), column, digits) for epoch in kept] for name in shown]

    others = {column: values(column, 4) for column in _SHOWN}
    troubles = [
        [name, epoch, row["trouble"]] for (name, epoch), row in cells.items() if row.get("trouble") and epoch in kept
    ]
    return {
        "loader": loader, "parameters": shown, "left_out": len(names) - len(shown), "epochs": kept,
        "epochs_left_out": len(epochs) - len(kept), "norms": values("norm", 9),
        "others": {column: of for column, of in others.items() if any(one is not None for row in of for one in row)},
        "troubles": troubles,
    }  # fmt: skip


def _number(row: Mapping[str, str] | None, column: str, digits: int) -> Any:
    text = (row or {}).get(column)
    if not text:
        return None
    try:
        return json_number(float(f"{float(text):.{digits}g}"))
    except ValueError:
        return None
