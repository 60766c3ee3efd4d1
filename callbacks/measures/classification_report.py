"""Precision, recall, F1 and error rates from a counted confusion matrix."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .confusion_matrix import predicted_totals, true_totals

SCORES = ("precision", "recall", "f1-score", "support")


@dataclass(frozen=True)
class Report:
    """The numbers of scikit-learn's ``classification_report`` with ``zero_division=0``, and error rates.

    Attributes:
        classes: the ``SCORES`` of each class or label; a class without samples has support 0.
        averages: the ``SCORES`` by name of the average: ``micro avg``, ``macro avg``, ``weighted avg``. Over classes
            they are those of the ones that occur, as truth or as prediction; over labels of all of them.
        accuracy: share of samples that are right, which the micro averages equal where there is one matrix; None
            for labels.
        false_positive_rate: mean over the classes or labels for which there are negatives; of two classes that of
            class 1. NaN where there is none.
        false_negative_rate: mean over those for which there are positives; of two classes that of
            class 1. NaN where there is none.
    """

    classes: list[dict[str, float]]
    averages: dict[str, dict[str, float]]
    accuracy: float | None
    false_positive_rate: float
    false_negative_rate: float


def classification_report(counts: Tensor, *, multilabel: bool, binary: bool = False) -> Report:
    """Compute the report.

    Args:
        counts: [1, C, C], or [L, 2, 2] for labels, int64, on the host; see ``measures.confusion_matrix``.
        multilabel: whether each matrix is one of no and yes.
        binary: whether the rates are those of class 1 of two, not means over classes.

    Example:
        >>> report = classification_report(torch.tensor([[[8, 2], [1, 9]]]), multilabel=False, binary=True)
        >>> report.accuracy, report.false_positive_rate, report.false_negative_rate
        (0.85, 0.2, 0.1)
        >>> report.classes[1]
        {'precision': 0.8181818181818182, 'recall': 0.9, 'f1-score': 0.8571428571428571, 'support': 10}
    """
    hits, predicted, true, total = _tally(counts, multilabel)
    scores = _scores(hits, predicted, true)
    # A label without samples still has a row in scikit-learn's averages; a class that never occurs has none.
    occurs = torch.ones_like(true, dtype=torch.bool) if multilabel else (predicted + true) > 0
    micro = _scores(hits.sum(), predicted.sum(), true.sum())
    averages = {
        "micro avg": micro,
        "macro avg": {name: _mean(values[occurs], torch.ones_like(true[occurs])) for name, values in scores.items()},
        "weighted avg": {name: _mean(values, true) for name, values in scores.items()},
    }
    # Of two classes the rates of class 0 are those of class 1 with the names exchanged.
    every = slice(1, None) if binary else slice(None)
    return Report(
        classes=_rows(scores, true),
        averages={name: _row(values, true.sum()) for name, values in averages.items()},
        accuracy=None if multilabel else float(micro["recall"]),
        false_positive_rate=_mean_rate((predicted - hits)[every], (total - true)[every]),
        false_negative_rate=_mean_rate((true - hits)[every], true[every]),
    )


def _tally(counts: Tensor, multilabel: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the true positives, predicted and true samples of each class, and all samples."""
    # Of a label only yes is scored; of classes each is yes once, and all others are no.
    if multilabel:
        return counts[:, 1, 1], counts[:, :, 1].sum(dim=1), counts[:, 1].sum(dim=1), counts.sum(dim=(1, 2))
    true = true_totals(counts)[0]
    return counts[0].diagonal().long(), predicted_totals(counts)[0], true, true.sum()


def _scores(hits: Tensor, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    # At least 1 below: scikit-learn's zero_division=0, as nothing above is left where nothing is below.
    parts = {"precision": (hits, predicted), "recall": (hits, true), "f1-score": (2 * hits, predicted + true)}
    return {name: above.double() / below.clamp(min=1) for name, (above, below) in parts.items()}


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1)


def _mean_rate(above: Tensor, below: Tensor) -> float:
    known = below > 0
    return float((above[known].double() / below[known]).mean())


def _rows(scores: dict[str, Tensor], support: Tensor) -> list[dict[str, float]]:
    columns = [*(values.tolist() for values in scores.values()), support.tolist()]
    names = (*scores, "support")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _row(scores: dict[str, Tensor], support: Tensor) -> dict[str, float]:
    return {**{name: float(value) for name, value in scores.items()}, "support": int(support)}
