"""Samples whose duplicates have another label, by what the findings of a run name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .suspects import Suspects

FINDINGS_FILE = "findings.json"
Label = tuple[int, ...]  # a class number, or a 0 or 1 of each label


def read_duplicates(path: Path, loader: str) -> dict[str, list[Label]]:
    """Return by the ids of samples of a loader the labels of their duplicates, each once, where they differ.

    Args:
        path: of ``findings.json``; where it is not there, or is another file, nothing is known.
        loader: its key.
    """
    try:
        written = json.loads(path.read_text("utf-8"))
        groups = [group for one in written for group in one.get("groups", ())]
        return _by_sample(groups, loader)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return {}


def _by_sample(groups: list[list[dict[str, Any]]], loader: str) -> dict[str, list[Label]]:
    found: dict[str, list[Label]] = {}
    for group in groups:
        labels = [tuple(int(label) for label in one["label"]) for one in group]
        for place, one in enumerate(group):
            if one["loader"] == loader:
                others = [label for at, label in enumerate(labels) if at != place]
                known = found.setdefault(str(one["sample_id"]), [])
                known += [label for label in dict.fromkeys(others) if label not in known]
    return found


def find_duplicates(
    index: np.ndarray,
    others: list[list[Label]],
    target: np.ndarray,
    shares: Mapping[int, Mapping[int, float]],
) -> Suspects:
    """Return samples of one class whose duplicates have another one.

    One of the two labels is wrong, and before the model is asked each of them with a probability of a half. So the
    score is the mean of 1 and of the mean probability of the other label less that of the own one.

    Args:
        index: [n], numbers of the samples.
        others: labels of the duplicates of each.
        target: [n], their own classes.
        shares: mean probabilities of classes over the epochs, by sample and class; where they are not known, the score
            is 0.5. A class that is not there counts as 0.
    """
    rows = []
    for number, labels, own in zip(index.tolist(), others, target.tolist(), strict=True):
        of = shares.get(number)
        for (other,) in (label for label in labels if len(label) == 1 and label[0] != own):
            excess = 0.0 if of is None else of.get(other, 0.0) - of.get(own, 0.0)
            rows.append((number, own, other, (1 + excess) / 2))
    return _suspects(rows)


def find_duplicates_of_labels(
    index: np.ndarray, others: list[list[Label]], labels: np.ndarray, shares: np.ndarray
) -> Suspects:
    """Return samples with several labels whose duplicates have others, a suspect for each label that differs.

    Args:
        index: [n], numbers of the samples.
        others: labels of the duplicates of each.
        labels: [n, C], 1 where a label is there, 0 where not.
        shares: [n, C], mean probabilities; NaN where they are not known. See ``find_duplicates`` for the score.
    """
    rows = []
    for number, of, own, share in zip(index.tolist(), others, labels, shares, strict=True):
        for other in (label for label in of if len(label) == len(own)):
            for place in np.flatnonzero((own != other) & np.isin(own, (0, 1)) & np.isin(other, (0, 1))).tolist():
                is_there = own[place] == 1
                excess = float(1 - 2 * share[place] if is_there else 2 * share[place] - 1)
                named = (place, -1) if is_there else (-1, place)
                rows.append((number, *named, (1 + (excess if np.isfinite(excess) else 0.0)) / 2))
    return _suspects(list(dict.fromkeys(rows)))


def _suspects(rows: list[tuple[int, int, int, float]]) -> Suspects:
    index, target, likely = (np.array([row[at] for row in rows], np.int64) for at in range(3))
    found = Suspects.of("duplicate", index, target, likely, np.array([row[3] for row in rows], np.float64))
    return Suspects.joined([found])
