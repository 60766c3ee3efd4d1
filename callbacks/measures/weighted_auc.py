"""The area under the ROC curve with a weight for each band of the true positive rate."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torchmetrics
from torch import Tensor

from ..errors import UsageError
from .binned_scores import BinnedScores
from .score_curves import roc_points


class WeightedAUC(torchmetrics.Metric):
    """The weighted area under the ROC curve of a binary score: 1 where all positives score above all negatives.

    The area between neighbouring ``bounds`` of the true positive rate counts with the weight of that band, and the sum
    is divided by that of a perfect score. The defaults are those of the Kaggle competition "ALASKA2 Image
    Steganalysis", 2020, section "Evaluation". A random score has 0.5 where all weights are equal, and 41/70,
    about 0.586, by default.

    Scores are counted in bins, see ``BinnedScores``: pairs that share a bin count as equal. The value is off by at most
    half their share of all pairs, times the largest weight over that of a perfect score (2 / 1.4 by default). It is NaN
    where a class is missing, a score was NaN or a target neither 0 nor 1.

    Args:
        bounds: of the bands, rising from 0 to 1.
        weights: one per band; none negative, not all 0.
        bins: an even number from 16 to 65536.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> metric = WeightedAUC()
        >>> metric.update(torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1, 1, 0]))
        >>> metric.compute().item()
        1.0
    """

    full_state_update = False  # torchmetrics' forward then runs update once and not twice
    counts: Tensor
    lost: Tensor

    def __init__(
        self, bounds: Sequence[float] = (0.0, 0.4, 1.0), weights: Sequence[float] = (2.0, 1.0), bins: int = 8192
    ):
        super().__init__()
        _check_arguments(bounds, weights, bins)
        self.bounds = tuple(bounds)
        self.weights = tuple(weights)
        self.add_state("counts", torch.zeros((1, 2, bins), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("lost", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            output: logits, of any shape.
            target: 0 and 1 in the same shape, of any type.
        """
        # Counted anew for each batch, as torchmetrics resets and moves the tensors of ``add_state`` itself.
        batch = BinnedScores("binary", 1, self.counts.shape[2], device=self.counts.device)
        batch.update(output, target)
        self.counts = self.counts + batch.state["counts"]
        self.lost = self.lost + batch.state["nan"].sum() + batch.state["outside"]

    def compute(self) -> Tensor:
        """Return the metric, a number on the device."""
        false, true = (points[0] for points in roc_points(self.counts))
        area = weighted_area(false, true, self.bounds, self.weights)
        # A score that is lost makes the area wrong by an unknown amount: NaN says so without a read.
        return torch.where(self.lost > 0, torch.nan, area)


def weighted_area(false: Tensor, true: Tensor, bounds: Sequence[float], weights: Sequence[float]) -> Tensor:
    """Return the weighted area below a curve of straight lines, divided by that of a perfect curve.

    Args:
        false: [P], false positive rate at each point, falling from 1 to 0.
        true: [P], true positive rate, falling from 1 to 0.
        bounds: see ``WeightedAUC``.
        weights: see ``WeightedAUC``.
    """
    bands = [(low, high, weight) for (low, high), weight in zip(pairwise(bounds), weights, strict=True)]
    areas = [weight * _area_in_band(false, true, low, high) for low, high, weight in bands]
    return torch.stack(areas).sum() / sum(weight * (high - low) for low, high, weight in bands)


def _area_in_band(false: Tensor, true: Tensor, low: float, high: float) -> Tensor:
    """Return the area below the curve within a band, in closed form for each straight line."""
    rise, height = true[:-1] - true[1:], high - low
    inside = (true - low).clamp(0, height)
    # The integral of ``inside`` over the true positive rate; over a line it is divided by the line's rise.
    below = inside.square() / 2 + height * (true - high).clamp(min=0)
    mean = torch.where(rise > 0, (below[:-1] - below[1:]) / rise.clamp(min=1e-300), inside[1:])
    return ((false[:-1] - false[1:]) * mean).sum()


def _check_arguments(bounds: Sequence[float], weights: Sequence[float], bins: int) -> None:
    rises = all(low < high for low, high in pairwise(bounds))
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != 1 or not rises:
        raise UsageError(f"bounds must rise from 0 to 1, got {tuple(bounds)}.")
    if len(weights) != len(bounds) - 1 or min(weights) < 0 or max(weights) <= 0:
        raise UsageError(f"weights must be {len(bounds) - 1}, none negative and not all 0, got {tuple(weights)}.")
    if not 16 <= bins <= 2**16 or bins % 2:
        raise UsageError(f"bins must be an even integer from 16 to 65536, got {bins!r}.")
