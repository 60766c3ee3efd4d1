"""Split the items of a data set into parts to train on and to validate on."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike

import numpy as np

from assay.callbacks.errors import UsageError

from ..readers.item_list import SPLITS, ItemList
from .class_weights import weighed_names
from .draw import draw_folds, draw_share
from .folds import parse_fold
from .groups import groups_of, straddling
from .label_counts import class_counts, classes_are_known
from .split_files import assign_from_file
from .units import Units

_log = logging.getLogger("assay")
_MOST_NAMES = 5


@dataclass(frozen=True)
class Split:
    """A split of items.

    Attributes:
        parts: the items of ``train``, ``valid`` and, where the data set has it, ``test``.
        how: in words, such as "a share of 0.2, drawn by class".
        is_drawn: whether it was drawn; otherwise it is the data set's own, or that of a file.
        notes: one line for each thing about it that a user should know, such as a class that a part lacks.
    """

    parts: dict[str, ItemList]
    how: str
    is_drawn: bool
    notes: list[str]


def split_items(
    items: ItemList,
    *,
    valid_share: float = 0.2,
    seed: int = 0,
    group_by: str | None = None,
    fold: str | None = None,
    split: str | PathLike[str] | None = None,
) -> dict[str, ItemList]:
    """Return the parts of a data set by name: ``train``, ``valid`` and, where the data set has it, ``test``.

    The data set's own split holds where it has one. Otherwise a share of the items is drawn for validation, or one fold
    of several. The classes are spread evenly over the parts, also where an item has several labels, and a group lies in
    one part as a whole. What is drawn follows from the seed and the items' ids: it is the same on every rank and
    machine, and in whatever order the items are listed. Each line that a user should know about the split is logged.

    Args:
        items: the data set.
        valid_share: share of the items to validate on, between 0 and 1.
        seed: what is drawn follows from it.
        group_by: what items belong together by: a column of ``items``, or a regular expression with one group, which is
            searched in the name of the file, or in the whole id where it holds a slash. By default the column
            ``group``, where there is one.
        fold: ``"2/5"`` to validate on the second of five folds, which are disjoint and cover the data set; also in
            place of its own split into train and valid.
        split: a CSV file with the columns ``image`` and ``split``, in place of all the others.

    Raises:
        UsageError: an argument is wrong, the share is less than an image per class, or a part would be empty.

    Example:
        >>> from pathlib import Path
        >>> columns = {"image": [f"{number}.jpg" for number in range(10)], "target": [0, 1] * 5}
        >>> items = ItemList(Path("."), columns, task="multiclass", layout="numbers", class_names=["even", "odd"])
        >>> parts = split_items(items, valid_share=0.4)
        >>> sorted(parts["valid"].column("target").tolist())
        [0, 0, 1, 1]
    """
    found = make_split(items, valid_share=valid_share, seed=seed, group_by=group_by, fold=fold, split=split)
    for note in found.notes:
        _log.warning("%s", note)
    return found.parts


def make_split(
    items: ItemList,
    *,
    valid_share: float = 0.2,
    seed: int = 0,
    group_by: str | None = None,
    fold: str | None = None,
    split: str | PathLike[str] | None = None,
) -> Split:
    """Return what ``split_items`` does, with notes that are not logged yet."""
    if not 0 < valid_share < 1:
        raise UsageError(f"valid_share must be between 0 and 1, got {valid_share}.")
    groups, notes = groups_of(items, group_by), list[str]()
    parts = _given(items) if split is None else np.array(assign_from_file(items, split), dtype=object)
    is_drawn = split is None and (fold is not None or not np.any(parts == "valid"))
    if is_drawn:
        if groups is not None and len(set(groups)) == 1:
            raise UsageError(f"all {len(items)} images are of one group, and a split needs two: change group_by.")
        pool = np.flatnonzero((parts == "train") | ((fold is not None) & (parts == "valid")))
        units = Units.make(items.take(pool), None if groups is None else [groups[at] for at in pool], seed)
        valid = _draw(units, items, valid_share, fold, notes)[units.of_items]
        parts[pool] = np.where(valid, "valid", "train")
    taken = {name: items.take(np.flatnonzero(parts == name)) for name in SPLITS if np.any(parts == name)}
    _check_parts(taken, items)
    given = "the split" if split is None else str(split)
    how = _how(items, valid_share, groups, fold) if is_drawn else f"as in {'the data set' if split is None else split}"
    return Split(taken, how, is_drawn, [*notes, *_notes(items, taken, parts, groups, given)])


def _how(items: ItemList, valid_share: float, groups: list[str] | None, fold: str | None) -> str:
    by = [*(["class"] if classes_are_known(items) else []), *([] if groups is None else ["group"])]
    drawn = f"drawn by {' and '.join(by)}" if by else "drawn at random"
    return f"{f'a share of {valid_share:g}' if fold is None else f'fold {fold}'}, {drawn}"


def _given(items: ItemList) -> np.ndarray:
    """Return the part that the data set itself gives to each item, [N]; the rest is to train on, if nothing else is."""
    given = np.array(list(items.column("split")) if "split" in items.names else [None] * len(items), dtype=object)
    return given if np.any(given == "train") else np.where(given == None, "train", given)  # noqa: E711 - by element


def _draw(units: Units, items: ItemList, valid_share: float, fold: str | None, notes: list[str]) -> np.ndarray:
    """Return which units to validate on, [U] bool."""
    if fold is not None:
        number, folds = parse_fold(fold)
        if folds > len(units.sizes):
            raise UsageError(f"fold {fold!r} asks for more folds than there are images or groups, {len(units.sizes)}.")
        return np.asarray(draw_folds(units.counts, units.sizes, folds) == number)
    _check_share(units, items, valid_share)
    drawn = draw_share(units.counts, units.sizes, valid_share)
    valid, names = units.with_each_class(drawn), weighed_names(items)
    for part, name in ((True, "valid"), (False, "train")):
        gained = (units.in_part(drawn == part) == 0) & (units.in_part(valid == part) > 0)
        if gained.any():
            moved = _some([names[label] for label in np.flatnonzero(gained).tolist()])
            notes.append(
                f"valid_share {valid_share:g} leaves {name} without the class {moved}: one image or group was moved."
            )
    return valid


def _check_share(units: Units, items: ItemList, valid_share: float) -> None:
    """Raise where a share of the items is fewer than one of each class, unless an item has several classes or none."""
    present = int((np.asarray(units.counts.sum(axis=0)) > 0).sum())
    count = int(units.sizes.sum())
    smaller, smallest = min(valid_share, 1 - valid_share), math.ceil(1e4 * present / count) / 1e4
    if items.task in ("multiclass", "binary") and int(smaller * count + 0.5) < present <= count // 2:
        raise UsageError(
            f"valid_share {valid_share:g} of {count} images leaves a part with fewer than one of each of the {present} "
            f"classes: use {smallest:g} to {1 - smallest:g}."
        )


def _check_parts(parts: dict[str, ItemList], items: ItemList) -> None:
    for name in ("train", "valid"):
        if name not in parts:
            raise UsageError(f"the split of the {len(items)} images in {items.root} leaves none for {name}.")


def _notes(
    items: ItemList, taken: dict[str, ItemList], parts: np.ndarray, groups: list[str] | None, split: str
) -> list[str]:
    """Return one line for each thing about a split that may not be meant."""
    notes = []
    left_out = len(items) - sum(map(len, taken.values()))
    if left_out:
        first = items.column("sample_id")[int(np.flatnonzero(parts == None)[0])]  # noqa: E711 - by element
        notes.append(f"{split} leaves out {left_out} of {len(items)} images, the first is {first!r}.")
    if groups is not None and (both := straddling(groups, parts)):
        notes.append(f"{split} puts groups into several parts: {_some(both)}.")
    counts, names = {name: class_counts(taken[name]) for name in ("train", "valid")}, weighed_names(items)
    for name, other in (("train", "valid"), ("valid", "train")):
        if labels := np.flatnonzero((counts[name] == 0) & (counts[other] > 0)).tolist():
            notes.append(f"{name} has no image of the class {_some([names[label] for label in labels])}.")
    return notes


def _some(names: Sequence[str]) -> str:
    """Return the first names in quotes, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"
