"""ROC, precision-recall and F1 of binned scores, each with a bound on its error."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_CELLS_AT_ONCE = 2**16  # whose numbers stay in the cache of a CPU: a thousand classes are three times as fast


@dataclass(frozen=True)
class ScoreSummary:
    """Areas, thresholds and bounds of each class or label, [C] each; NaN without positives or without negatives.

    The value of the scores before they were binned is at most the bound away.

    Attributes:
        positives: number of samples of the class.
        negatives: number of all others.
        roc_auc: area under the ROC curve.
        roc_auc_bound: half the share of pairs of a positive and a negative that share a bin.
        average_precision: step-wise, as in scikit-learn.
        average_precision_bound: distance to the best or worst order within bins, whichever is farther.
        best_f1: largest F1 that any edge of a bin reaches as a threshold; exact at this threshold.
        best_f1_bound: how much more a threshold within a bin could reach.
        logit: the threshold of ``best_f1``: positive is what is at least it. Of edges without a score between
            them it is the middle one.
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
    """Return all numbers of ``ScoreSummary``.

    Args:
        counts: [C, 2, B], int64, on the host; see ``measures.binned_scores``.
        edges: [B + 1], logits; or [C, B + 1], where each bin holds one value: the numbers are exact then, and their
            bounds 0; see ``measures.kept_scores``.

    Example:
        >>> from assay.callbacks.measures.binned_scores import BinnedScores, score_edges
        >>> measure = BinnedScores("binary", classes=1, bins=1024)
        >>> measure.update(torch.tensor([2.0, 1.0, -1.0, -2.0]), torch.tensor([1, 0, 1, 0]))
        >>> summary = summarize_scores(measure.state["counts"], score_edges("binary", 1, 1024))
        >>> summary.roc_auc.item(), summary.roc_auc_bound.item()
        (0.75, 0.0)
    """
    parts = groups(counts)
    places = edges.split([len(part) for part in parts]) if edges.ndim == 2 else [edges] * len(parts)
    columns = zip(*(_summarize(*pair) for pair in zip(parts, places, strict=True)), strict=True)
    found = ScoreSummary(*(torch.cat(values) for values in columns))
    return _without_bounds(found) if edges.ndim == 2 else found


def _without_bounds(found: ScoreSummary) -> ScoreSummary:
    # NaN stays where there is no value.
    bounds = ("roc_auc_bound", "average_precision_bound", "best_f1_bound")
    return replace(found, **{name: getattr(found, name) * 0 for name in bounds})


def best_thresholds(counts: Tensor, edges: Tensor) -> Tensor:
    """Return only the ``threshold`` of ``summarize_scores``."""
    found = []
    for some in groups(counts):
        _, _, place = best_f1(some)
        known = (some.sum(dim=2) > 0).all(dim=1)
        found.append(torch.where(known, edges[place].sigmoid(), torch.nan))
    return torch.cat(found)


def groups(counts: Tensor) -> Sequence[Tensor]:
    """Return the counts of a few classes at a time."""
    found: Sequence[Tensor] = counts.split(max(1, _CELLS_AT_ONCE // counts[0].numel()))
    return found


def _summarize(counts: Tensor, edges: Tensor) -> tuple[Tensor, ...]:
    tally = _Tally(counts)
    f1, f1_bound, place = _best_f1(tally)
    logit = edges[place] if edges.ndim == 1 else edges.gather(1, place[:, None])[:, 0]
    values = (*_roc_auc(tally), *_average_precision(tally), f1, f1_bound, logit, logit.sigmoid())
    negatives, positives = tally.reached[:, :, 0].unbind(dim=1)
    # Without one of both kinds no number is defined: NaN, whatever the formulas give.
    known = (positives > 0) & (negatives > 0)
    return positives, negatives, *(torch.where(known, value, torch.nan) for value in values)


class _Tally:
    """Counts [C, 2, B] in float64, of each bin and from each edge on, from which all numbers follow."""

    def __init__(self, counts: Tensor):
        self.negatives, self.positives = counts.double().unbind(dim=1)
        self.reached = at_least(counts)
        self.false, self.true = self.reached.double().unbind(dim=1)
        self.all = self.false + self.true
        self.total_negatives, self.total_positives = self.false[:, :1], self.true[:, :1]


def at_least(counts: Tensor) -> Tensor:
    """Return how many scores each edge has at or above it, [C, 2, B + 1], int64: all at the first, none at the last."""
    # In place where possible: with many classes and bins these are the largest tensors of a report.
    below = counts.new_zeros((*counts.shape[:2], counts.shape[2] + 1))
    torch.cumsum(counts, dim=2, out=below[:, :, 1:])
    total = below[:, :, -1:].clone()
    return below.neg_().add_(total)


def roc_points(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return false and true positive rate at each edge, [C, B + 1] in float64, 1 down to 0; NaN where undefined."""
    rates = counts.new_empty((*counts.shape[:2], counts.shape[2] + 1), dtype=torch.float64)
    done = 0
    for some in groups(counts):
        rates[done : done + len(some)] = at_least(some).double().div_(some.sum(dim=2, keepdim=True))
        done += len(some)
    return rates[:, 0], rates[:, 1]


def pr_points(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return precision and recall at each edge, [C, B + 1] in float64; precision is 1 where nothing is predicted."""
    false, true = at_least(counts).double().unbind(dim=1)
    # scikit-learn's convention at the last edge, where nothing is predicted.
    precision = torch.where(true + false > 0, true / (true + false), 1.0)
    return precision, true / counts[:, 1].sum(dim=1, keepdim=True)


def best_f1(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best F1 of all edges, its bound, and the number of the edge."""
    return _best_f1(_Tally(counts))


def _roc_auc(tally: _Tally) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve, pairs within a bin counting half, and its bound."""
    # The Mann-Whitney statistic: the share of pairs in which the positive scores higher, ties counting half. Binning
    # makes ties of pairs that the scores may order either way, so that their half is the bound.
    below = tally.total_negatives - tally.false[:, :-1]
    pairs = (tally.total_positives * tally.total_negatives)[:, 0]
    within = (tally.positives * tally.negatives).sum(dim=1) / 2
    return ((tally.positives * below).sum(dim=1) + within) / pairs, within / pairs


def _average_precision(tally: _Tally) -> tuple[Tensor, Tensor]:
    """Return the sum over bins of precision times gain in recall, and its bound.

    The value takes the scores of a bin as equal. The best that a bin can be is its positives first, all of one score;
    the worst is its negatives first, then its p positives one by one, with precisions (T + j) / (T + j + F) of T true
    and F false ones before. Their sum is at least the integral from 1/2 to p + 1/2, because they are concave in j.
    """
    false, reached = tally.false[:, :-1], tally.all[:, :-1]
    total = tally.total_positives[:, 0]
    gain = tally.positives * tally.true[:, :-1]
    value = (gain / reached.clamp(min=1)).sum(dim=1) / total
    best = (gain / (reached - tally.negatives).clamp(min=1)).sum(dim=1) / total
    share = tally.positives / (reached - tally.positives + 0.5)
    worst = (tally.positives - false * share.log1p_()).clamp(min=0).sum(dim=1) / total
    return value, torch.maximum(best - value, value - worst).clamp(min=0)


def _best_f1(tally: _Tally) -> tuple[Tensor, Tensor, Tensor]:
    # F1 = 2 TP / (2 TP + FP + FN) = 2 TP / (predicted + positives). Within a bin a threshold can at best drop all
    # negatives and keep all positives.
    doubled, decided = 2 * tally.true, tally.all + tally.total_positives
    value, first = (doubled / decided.clamp(min=1)).max(dim=1)
    inside = (doubled[:, :-1] / (decided[:, :-1] - tally.negatives).clamp(min=1)).amax(dim=1)
    # Edges with no score between them decide alike: the middle one keeps the most distance from both sides.
    chosen = tally.all.gather(1, first.unsqueeze(1))
    before, until = (tally.all > chosen).sum(dim=1), (tally.all >= chosen).sum(dim=1)
    return value, (inside - value).clamp(min=0), (before + until - 1) // 2


def mean_known(values: Tensor) -> float:
    """Return the mean of what is not NaN; NaN where nothing is."""
    return float(values.nanmean())


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
    # Inner borders only: the outer ones, 0 and 1, enclose everything.
    cut = np.searchsorted(places, grid[1:-1], side="right") - 1
    part = (grid[1:-1] - places[cut]) / (places[cut + 1] - places[cut])
    shares = [_shares(some, cut, part) for some in groups(counts)]
    return np.concatenate(shares)


def _shares(counts: Tensor, cut: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return the shares between cuts in the bins ``cut``, of which ``part`` is below."""
    until = counts.cumsum(dim=2).numpy()
    total, inside = until[:, :, -1:], counts.numpy()[:, :, cut]
    inner = until[:, :, cut] - inside + inside * part
    found = np.diff(np.concatenate([np.zeros_like(inner, shape=total.shape), inner, total], axis=2))
    shares: np.ndarray = np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)
    return shares
