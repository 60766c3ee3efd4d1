"""Weights of classes for a loss: by name, or the larger the rarer a class is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError, unknown_name

from ..readers.item_list import ItemList
from .label_counts import class_counts

BALANCED = "balanced"
_MOST_SHOWN = 10


def class_weights(
    items: ItemList, given: str | Mapping[str, float] | None, *, masks: Iterable[Any] = ()
) -> list[float] | None:
    """Return the weight of each class, as ``make_loss`` takes them; None where none are given.

    ``balanced`` gives each class the same weight in total. With N items in C classes, of which n are of the class, that
    is ``N / (C * n)``, as in scikit-learn. Of labels that do not exclude each other it is the weight of a yes, the
    number of items without the label over that of items with it. Of a segmentation pixels are counted. A class that
    does not occur has weight 1.

    Args:
        items: those that are trained on.
        given: ``balanced``, or weights by the name of the class; those that are not named have 1.
        masks: of a segmentation, [H, W] integers each; values from the number of classes on do not count.

    Raises:
        UsageError: a name is unknown, a weight is not greater than 0, or the items are of a task without such weights.

    Example:
        >>> columns = {"image": ["a.jpg", "b.jpg", "c.jpg"], "target": [0, 0, 1]}
        >>> items = ItemList("photos", columns, task="multiclass", layout="mine", class_names=["ok", "scratch"])
        >>> class_weights(items, "balanced")
        [0.75, 1.5]
    """
    if given is None:
        return None
    if items.task == "detection":
        raise UsageError("class_weights has no use for boxes: the detectors weigh their losses by themselves.")
    names = weighed_names(items)
    if isinstance(given, str):
        if given != BALANCED:
            raise UsageError(f"class_weights must be {BALANCED} or weights by name, got {given!r}.")
        return _balanced(items, len(names), masks)
    return _by_name(names, given)


def weighed_names(items: ItemList) -> list[str]:
    """Return the names of the classes that have a weight; a binary task that names one has the other as well."""
    names = list(items.class_names)
    return [f"not {names[0]}", *names] if items.task == "binary" and len(names) == 1 else names


def describe_weights(names: Sequence[str], weights: Sequence[float]) -> str:
    """Return weights with the names of their classes, the largest first."""
    ranked = sorted(zip(names, weights, strict=True), key=lambda one: -one[1])
    more = f" and {len(ranked) - _MOST_SHOWN} more" if len(ranked) > _MOST_SHOWN else ""
    return f"class weights: {', '.join(f'{name} {weight:.3g}' for name, weight in ranked[:_MOST_SHOWN])}{more}"


def _balanced(items: ItemList, classes: int, masks: Iterable[Any]) -> list[float]:
    counts = _pixel_counts(masks, classes) if items.task == "segmentation" else class_counts(items)
    if items.task == "multilabel":
        weights = (len(items) - counts) / np.maximum(counts, 1)
        # A label that all items have, or none, leaves nothing to balance.
        return [float(one) for one in np.where((counts == 0) | (counts == len(items)), 1.0, weights)]
    weights = counts.sum() / (np.maximum(counts, 1) * max(1, int((counts > 0).sum())))
    return [float(one) for one in np.where(counts == 0, 1.0, weights)]


def _pixel_counts(masks: Iterable[Any], classes: int) -> np.ndarray:
    counts = np.zeros(classes, dtype=np.int64)
    for mask in masks:
        found = np.bincount(np.asarray(mask).reshape(-1), minlength=classes)
        counts += found[:classes]
    return counts


def _by_name(names: Sequence[str], given: Mapping[str, float]) -> list[float]:
    for name, weight in given.items():
        if str(name) not in names:
            raise unknown_name("class in class_weights", name, names)
        if not 0 < float(weight) < np.inf:
            raise UsageError(f"class_weights must be greater than 0, got {weight} for {name!r}.")
    by_name = {str(name): float(weight) for name, weight in given.items()}
    return [by_name.get(name, 1.0) for name in names]
