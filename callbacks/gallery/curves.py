"""What became of samples over the epochs: numbers of a few samples out of the files of all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .numbers import json_number
from .table import UNKNOWN

CURVES = ("loss", "target_probability", "prediction", "score")
_MOST_READ = 16_000_000  # samples times epochs that curves are made of, which is two seconds of reading


def some_epochs(epochs: Mapping[int, str], count: int) -> dict[int, str]:
    """Return as many epochs as can be read in a moment, the last one among them.

    Args:
        epochs: their files by number, ascending.
        count: of the loader's samples.
    """
    most = max(_MOST_READ // max(count, 1), 2)
    step = 1
    while len(epochs) / step > most:
        step *= 2  # so that those of before stay, and need not be read again, while a run adds epochs
    return {
        epoch: name
        for place, (epoch, name) in enumerate(epochs.items(), start=1)
        if place % step == 0 or place in (1, len(epochs))
    }


def curves_of(
    epochs: Mapping[int, str], indices: np.ndarray, read: Callable[[str], Sequence[np.ndarray]]
) -> dict[str, Any]:
    """Return the numbers of some samples by epoch.

    Args:
        epochs: their files by number, ascending.
        indices: [n], numbers of the samples.
        read: returns of a file the numbers of its samples, [m], ascending, and each of ``CURVES``, [m], or [0] where
            the file does not have it.

    Returns:
        ``epochs``, and for each of ``CURVES`` that a file has a list per sample with a value per epoch, None where it
        was not seen or is not known, and ``inf`` or ``-inf`` as texts.
    """
    values: dict[str, list[np.ndarray]] = {}
    for done, name in enumerate(epochs.values()):
        index, *others = read(name)
        place = np.searchsorted(index, indices)
        seen = place < len(index)
        seen[seen] = index[place[seen]] == indices[seen]
        for of, column in zip(CURVES, others, strict=True):
            rows = values.setdefault(of, [np.full(len(indices), np.nan)] * done) if len(column) else values.get(of)
            if rows is not None:
                rows.append(_row(column, place, seen, of) if len(column) else np.full(len(indices), np.nan))
    found: dict[str, Any] = {"epochs": list(epochs)}
    return found | {of: _listed(np.array(rows).T, whole=of == "prediction") for of, rows in values.items()}


def _row(column: np.ndarray, place: np.ndarray, seen: np.ndarray, of: str) -> np.ndarray:
    row = np.full(len(seen), np.nan)
    row[seen] = column[place[seen]]
    if of == "prediction":
        row[row == UNKNOWN] = np.nan
    return row


def _listed(values: np.ndarray, *, whole: bool) -> list[list[Any]]:
    """Return rows of numbers for JSON; None is unknown, and what is infinite a text."""
    turn = int if whole else json_number
    return [[None if one != one else turn(one) for one in row] for row in values.tolist()]
