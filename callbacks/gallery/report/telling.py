"""Which samples of a loader tell most, in an order by which a page of limited size takes them."""

from collections.abc import Sequence

import numpy as np

from ..table import RIGHT, WRONG, Table

_EXTREMES = 100  # worst and best ones, taken before others that are only wrong
_LISTS = ("stuck", "newly_wrong", "forgotten", "unstable")


def by_loss(table: Table) -> np.ndarray | None:
    """Return rows from the worst to the best by loss, or by score where that is what the task has; None: by neither."""
    for name, is_worse_high in (("loss", True), ("score", False)):
        values = table.columns.get(name)
        if values is not None and np.isfinite(values).any():
            key = np.where(np.isnan(values), np.inf, -values if is_worse_high else values)
            order = np.argsort(key, kind="stable")
            return order[: int((~np.isnan(values)).sum())]
    return None


def telling_order(table: Table, first: Sequence[int] | np.ndarray = ()) -> np.ndarray:
    """Return the rows of a table, the most telling first.

    These are: rows that are named, suspects by rank, samples that a finding names, the worst and the best, those of the
    other lists, the wrong ones from the worst on, and the others by chance, which is always the same.

    Args:
        table: of a loader.
        first: rows that come before all.
    """
    count = len(table)
    place = np.random.default_rng(0).permutation(count).astype(float)
    ranked = by_loss(table)
    loss_place = np.full(count, np.inf)
    if ranked is not None:
        loss_place[ranked] = np.arange(len(ranked))
    tier = np.full(count, 6)

    def take(rows: np.ndarray, number: int, places: np.ndarray | None = None) -> None:
        rows = rows[tier[rows] > number]
        tier[rows] = number
        if places is not None:
            place[rows] = places[rows]

    take(np.asarray(first, np.int64), 0)
    if "suspect_rank" in table.columns:
        ranks = table.columns["suspect_rank"]
        take(np.flatnonzero(ranks > 0), 1, ranks)
    take(np.array(sorted(table.findings or {}), np.int64), 2)
    if ranked is not None:
        take(ranked[:_EXTREMES], 3, loss_place)
        take(ranked[::-1][: _EXTREMES // 2], 3, loss_place)
    for name in _LISTS:
        if name in table.columns:
            take(np.flatnonzero(table.columns[name] == RIGHT), 4, loss_place)
    if "correct" in table.columns:
        take(np.flatnonzero(table.columns["correct"] == WRONG), 5, loss_place)
    return np.lexsort((place, tier))
