"""Precision, recall, F1 and the confusion of classes, from what each sample was predicted as."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_MOST_ROWS = 200  # classes in the table
_MOST_CLASSES = 50  # rows and columns of the confusion matrix


def class_table(target: np.ndarray, prediction: np.ndarray, classes: Sequence[str] | None) -> dict[str, Any] | None:
    """Return the table of an epoch, over all samples whose target and prediction are known.

    Args:
        target: [N], class numbers, -1 where there is none.
        prediction: [N], the same.
        classes: one name per class; None: classes are shown by number.

    Returns:
        ``samples`` that count and ``unknown`` that do not; ``accuracy``; ``rows`` of name, precision, recall, F1 (0
        where there is nothing to divide by, as in scikit-learn) and number of samples, the lowest F1 first;
        ``confusion`` of the classes with the most errors. None where no sample counts.
    """
    known = (target >= 0) & (prediction >= 0)
    target, prediction = target[known].astype(np.int64), prediction[known].astype(np.int64)
    if not len(target):
        return None
    count = max(len(classes or ()), int(target.max()) + 1, int(prediction.max()) + 1)
    names = [*(classes or ())] + [str(number) for number in range(len(classes or ()), count)]
    right = np.bincount(target[target == prediction], minlength=count)
    support, predicted = np.bincount(target, minlength=count), np.bincount(prediction, minlength=count)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(support, 1)
    f1 = 2 * right / np.maximum(support + predicted, 1)
    present = np.flatnonzero(support + predicted)
    order = present[np.argsort(f1[present], kind="stable")]
    rows = [
        [names[i], float(precision[i]), float(recall[i]), float(f1[i]), int(support[i])] for i in order[:_MOST_ROWS]
    ]
    return {
        "samples": len(target), "unknown": int((~known).sum()), "accuracy": float(right.sum() / len(target)),
        "rows": rows, "left_out": len(order) - len(rows),
        "confusion": _confusion(target, prediction, names, support + predicted - 2 * right),
    }  # fmt: skip


def _confusion(target: np.ndarray, prediction: np.ndarray, names: list[str], errors: np.ndarray) -> dict[str, Any]:
    kept = np.arange(len(names))
    if len(names) > _MOST_CLASSES:
        kept = np.sort(np.argsort(-errors, kind="stable")[:_MOST_CLASSES])
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))
    rows, columns = place[target], place[prediction]
    shown = (rows >= 0) & (columns >= 0)
    counts = np.bincount(rows[shown] * len(kept) + columns[shown], minlength=len(kept) ** 2)
    return {
        "classes": [names[i] for i in kept], "numbers": kept.tolist(), "left_out": len(names) - len(kept),
        "counts": counts.reshape(len(kept), len(kept)).tolist(),
    }  # fmt: skip
