"""How often each class occurs in each item, as far as that is known without reading images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from assay.callbacks.keys import TARGET_KEY

from ..readers.item_list import CLASSES_OF_MASKS, ItemList

_SINGLE = ("multiclass", "binary")


def label_counts(items: ItemList) -> sparse.csr_array:
    """Return whether class c occurs in item n, [N, C] of 0 and 1.

    The classes are those of the target, of all labels that are 1, of the boxes, or of the mask, where its reader has
    looked at all of them.
    """
    count, classes = len(items), len(items.class_names)
    if items.task in _SINGLE:
        rows, labels = np.arange(count), np.asarray(items.column(TARGET_KEY), dtype=np.int64).reshape(count)
        classes = max(classes, 2)  # a binary task may name one class alone
    elif items.task == "multilabel":
        rows, labels = np.nonzero(_stacked(items.column(TARGET_KEY), classes) > 0.5)
    elif (column := _of_several(items)) is not None:
        of_items = [np.unique(of) for of in items.column(column)]
        rows = np.repeat(np.arange(count), [len(of) for of in of_items])
        labels = np.concatenate([*of_items, np.zeros(0)]).astype(np.int64)
    else:
        rows = labels = np.zeros(0, dtype=np.int64)
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, labels)), shape=(count, classes))


def classes_are_known(items: ItemList) -> bool:
    """Whether it is known which classes occur in each item."""
    return items.task != "segmentation" or _of_several(items) is not None


def class_counts(items: ItemList) -> np.ndarray:
    """Return in how many items each class occurs, [C]; see ``label_counts``."""
    return np.asarray(label_counts(items).sum(axis=0)).reshape(-1)


def _of_several(items: ItemList) -> str | None:
    """Return the column with the classes of each item, of boxes or masks; None where there is none."""
    column = {"detection": "labels", "segmentation": CLASSES_OF_MASKS}.get(items.task)
    return column if column in items.names else None


def _stacked(targets: Sequence[Any], classes: int) -> np.ndarray:
    return np.stack([np.asarray(one) for one in targets]) if len(targets) else np.zeros((0, classes))
