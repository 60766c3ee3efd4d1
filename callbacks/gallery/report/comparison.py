"""What became of the same samples in two runs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compare import OTHER, compare
from ..run_samples import RunSamples
from ..table import RIGHT, WRONG, Table
from .embedded import sample_row

_LISTED = 48  # samples of each list


def compare_runs(first: RunSamples, other: RunSamples) -> list[dict[str, Any]]:
    """Return for each loader that both runs have what got better and what got worse from the first to the other.

    Raises:
        WrongFileError: a file is not what a run writes.
    """
    both = {info.loader for info in other.loaders() if info.epochs and not info.error}
    loaders = [info.loader for info in first.loaders() if info.loader in both and info.epochs and not info.error]
    return [_compare_loader(first.table(loader), other.table(loader)) for loader in loaders]


def _compare_loader(table: Table, other: Table) -> dict[str, Any]:
    joined = compare(table, other)
    found: dict[str, Any] = {
        "run": table.run, "other": other.run, "loader": table.loader, "task": table.task,
        "epoch": table.epoch, "other_epoch": other.epoch,
        "both": len(joined), "only_run": len(table) - len(joined), "only_other": len(other) - len(joined),
        "counts": None, "better": [], "worse": [],
    }  # fmt: skip
    change = _change(joined)
    if change is None:
        return found
    better, worse = change > 0, change < 0
    if "correct" in joined.columns and f"correct{OTHER}" in joined.columns:
        before, after = joined.columns["correct"], joined.columns[f"correct{OTHER}"]
        better, worse = (before == WRONG) & (after == RIGHT), (before == RIGHT) & (after == WRONG)
        found["counts"] = {
            "right_right": int(((before == RIGHT) & (after == RIGHT)).sum()), "better": int(better.sum()),
            "worse": int(worse.sum()), "wrong_wrong": int(((before == WRONG) & (after == WRONG)).sum()),
        }  # fmt: skip
    order = np.argsort(-change, kind="stable")
    found["better"] = _rows(joined, order[better[order]])
    found["worse"] = _rows(joined, order[::-1][worse[order[::-1]]])
    return found


def _change(joined: Table) -> np.ndarray | None:
    """Return by how much each sample is better in the other run, 0 where it is not known: less loss, or more score."""
    for name, sign in (("loss", 1), ("score", -1)):
        before, after = joined.columns.get(name), joined.columns.get(f"{name}{OTHER}")
        if before is not None and after is not None and (np.isfinite(before) & np.isfinite(after)).any():
            change = sign * (before.astype(np.float64) - after)
            return np.where(np.isfinite(change), change, 0.0)
    if {"correct", f"correct{OTHER}"} <= joined.columns.keys():
        return np.zeros(len(joined))
    return None


def _rows(joined: Table, rows: np.ndarray) -> list[dict[str, Any]]:
    return [_row(joined, int(row)) for row in rows[:_LISTED]]


def _row(joined: Table, row: int) -> dict[str, Any]:
    theirs = {name.removesuffix(OTHER): values for name, values in joined.columns.items() if name.endswith(OTHER)}
    there = Table(joined.run, joined.loader, joined.task, joined.classes, joined.epoch, (), joined.ids, theirs)
    return sample_row(joined, row) | {"other": sample_row(there, row)}


def named_in(comparisons: Sequence[dict[str, Any]], run: str) -> dict[str, list[int]]:
    """Return by loader the numbers of the samples that comparisons list of a run."""
    found: dict[str, list[int]] = {}
    for one in comparisons:
        for sample in [*one["better"], *one["worse"]]:
            for name, of in ((one["run"], sample), (one["other"], sample["other"])):
                if name == run:
                    found.setdefault(one["loader"], []).append(of["index"])
    return found
