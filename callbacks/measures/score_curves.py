"""What follows from binned scores: curves, the areas below them, the best threshold, and how far each may be off."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class ScoreSummary:
    """Numbers of each class or label, [C] each; NaN for a class without positives or without negatives.

    The true value, that of the scores before they were binned, is at most the bound away.

    Attributes:
        positives: number of samples of the class.
        negatives: number of all others.
        roc_auc: area under the ROC curve.
        roc_auc_bound: half the share of pairs of a positive and a negative that share a bin.
        average_precision: step-wise, as in scikit-learn.
        average_precision_bound: distance to the best or worst order within bins, whichever is farther.
        best_f1: largest F1 that any edge of a bin reaches as a threshold; exact at this threshold.
        best_f1_bound: how much more a threshold within a bin could reach.
        logit: the threshold of ``best_f1``: positive is what is at least it. Where no score lies, it is in the middle.
        threshold: the same as a probability.
    """

    positives: Tensor
    negatives: Tensor
    roc_auc: Tensor
    roc_auc_bound: Tensor
    average_precision: Tensor
    average_precision_bound: Tensor
    best_f1: Tensor
    best_f1_bound: Tensor
    logit: Tensor
    threshold: Tensor


def summarize_scores(counts: Tensor, edges: Tensor) -> ScoreSummary:
    """Compute all of it.

    Args:
        counts: [C, 2, B], int64, on the host; see ``measures.binned_scores``.
        edges: [B + 1], logits.
    """
    negatives, positives = counts.sum(dim=2).unbind(dim=1)
    auc, auc_bound = roc_auc(counts)
    precision, precision_bound = average_precision(counts)
    f1, f1_bound, place = best_f1(counts)
    logit = edges[place]
    values = (auc, auc_bound, precision, precision_bound, f1, f1_bound, logit, logit.sigmoid())
    known = (positives > 0) & (negatives > 0)
    return ScoreSummary(positives, negatives, *(torch.where(known, value, torch.nan) for value in values))


def at_least(counts: Tensor) -> Tensor:
    """Return how many scores each edge has at or above it, [C, 2, B + 1], int64: all at the first, none at the last."""
    above = counts.flip(2).cumsum(dim=2).flip(2)
    return torch.cat([above, torch.zeros_like(above[:, :, :1])], dim=2)


def roc_points(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return false and true positive rate at each edge, [C, B + 1] in float64, 1 down to 0; NaN where undefined."""
    rates = at_least(counts).double() / counts.sum(dim=2, keepdim=True)
    return rates[:, 0], rates[:, 1]


def pr_points(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return precision and recall at each edge, [C, B + 1] in float64; precision is 1 where nothing is predicted."""
    false, true = at_least(counts).double().unbind(dim=1)
    precision = torch.where(true + false > 0, true / (true + false), 1.0)
    return precision, true / counts[:, 1].sum(dim=1, keepdim=True)


def roc_auc(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve, pairs within a bin counting half, and its bound."""
    negatives, positives = counts.double().unbind(dim=1)
    below = negatives.cumsum(dim=1) - negatives
    pairs = positives.sum(dim=1) * negatives.sum(dim=1)
    within = (positives * negatives).sum(dim=1) / 2
    return ((positives * below).sum(dim=1) + within) / pairs, within / pairs


def average_precision(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over bins of precision times gain in recall, and its bound.

    The value takes the scores of a bin as equal. The best that a bin can be is its positives first, all of one score;
    the worst is its negatives first, then its p positives one by one, with precisions (T + j) / (T + j + F) of T true
    and F false ones before. Their sum is at least the integral from 1/2 to p + 1/2, because they are concave in j.
    """
    negatives, positives = counts.double().unbind(dim=1)
    false, true = at_least(counts)[:, :, :-1].double().unbind(dim=1)
    total = positives.sum(dim=1)
    value = _over_bins(positives * true, true + false) / total
    best = _over_bins(positives * true, true + false - negatives) / total
    before = true - positives + false
    worst = (positives - false * torch.log1p(positives / (before + 0.5))).clamp(min=0).sum(dim=1) / total
    return value, torch.maximum(best - value, value - worst).clamp(min=0)


def best_f1(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best F1 of all edges, its bound, and the number of the edge."""
    negatives, positives = counts.double().unbind(dim=1)
    reached = at_least(counts)
    false, true = reached.double().unbind(dim=1)
    total = positives.sum(dim=1, keepdim=True)
    f1 = 2 * true / (true + false + total).clamp(min=1)
    value, first = f1.max(dim=1)
    inside = (2 * true[:, :-1] / (true[:, :-1] + false[:, :-1] - negatives + total).clamp(min=1)).amax(dim=1)
    # Edges with no score between them decide alike: the middle one keeps the most distance from both sides.
    all_predicted = reached.sum(dim=1)
    chosen = all_predicted.gather(1, first.unsqueeze(1))
    before, until = (all_predicted > chosen).sum(dim=1), (all_predicted >= chosen).sum(dim=1)
    return value, (inside - value).clamp(min=0), (before + until - 1) // 2


def mean_known(values: Tensor) -> float:
    """Return the mean of what is not NaN; NaN where nothing is."""
    return float(values.nanmean())


def _over_bins(above: Tensor, below: Tensor) -> Tensor:
    return (above / below.clamp(min=1)).sum(dim=1)


def shares_by_probability(counts: Tensor, edges: Tensor, grid: np.ndarray) -> np.ndarray:
    """Return which share of each truth's scores lies between neighbours of a grid of probabilities.

    Args:
        counts: [C, 2, B], int64, on the host.
        edges: [B + 1], logits.
        grid: [G + 1], rising from 0 to 1; a bin that it cuts is divided in proportion.

    Returns:
        [C, 2, G] in float64; NaN where a truth has no score.
    """
    places = edges.sigmoid().numpy()
    below = np.pad(counts.numpy().cumsum(axis=2), ((0, 0), (0, 0), (1, 0)))
    rows = [np.interp(grid, places, row) for row in below.reshape(-1, below.shape[2])]
    total = below[:, :, -1:]
    inner = np.reshape(rows, (*below.shape[:2], -1))[:, :, 1:-1]
    found = np.diff(np.concatenate([np.zeros_like(inner[:, :, :1], shape=total.shape), inner, total], axis=2))
    shares: np.ndarray = np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)
    return shares
