"""How often each class occurs in each item, as far as that is known without reading images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from assay.callbacks.keys import TARGET_KEY

from ..readers.item_list import ItemList

_SINGLE = ("multiclass", "binary")


def label_counts(items: ItemList) -> sparse.csr_array:
    """Return whether class c occurs in item n, [N, C] of 0 and 1.

    The classes are those of the target, of all labels that are 1, or of the boxes. The masks of a segmentation are not
    read: nothing is known of its items.
    """
    count, classes = len(items), len(items.class_names)
    if items.task in _SINGLE:
        rows, labels = np.arange(count), np.asarray(items.column(TARGET_KEY), dtype=np.int64).reshape(count)
        classes = max(classes, 2)  # a binary task may name one class alone
    elif items.task == "multilabel":
        rows, labels = np.nonzero(_stacked(items.column(TARGET_KEY), classes) > 0.5)
    elif items.task == "detection":
        of_items = [np.unique(of) for of in items.column("labels")]
        rows = np.repeat(np.arange(count), [len(of) for of in of_items])
        labels = np.concatenate([*of_items, np.zeros(0)]).astype(np.int64)
    else:
        rows = labels = np.zeros(0, dtype=np.int64)
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, labels)), shape=(count, classes))


def class_counts(items: ItemList) -> np.ndarray:
    """Return in how many items each class occurs, [C]; see ``label_counts``."""
    return np.asarray(label_counts(items).sum(axis=0)).reshape(-1)


def _stacked(targets: Sequence[Any], classes: int) -> np.ndarray:
    return np.stack([np.asarray(one) for one in targets]) if len(targets) else np.zeros((0, classes))
