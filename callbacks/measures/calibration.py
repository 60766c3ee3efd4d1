"""How often predictions of each confidence are right, counted without reading the device."""

from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions

_ONE = 2**24  # confidences add up as whole numbers: to the same sum in any order, on any number of ranks
_AT_ONCE = 2**19  # predictions that are binned together, so that masks take little memory on the way


@stored_as("ReliabilityBins")
class ReliabilityBins:
    """Predictions by confidence, in B bins of equal width.

    ``counts`` is [3, B], int64: predictions, right ones, and the sum of confidences times 2^24. Left out are
    ``ignore_index`` and, counted, ``outside``: targets that are no class, and ``nan``: confidences that are NaN.
    """

    reductions: ClassVar[Reductions] = {"counts": "sum", "outside": "sum", "nan": "sum"}

    def __init__(self, bins: int, classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"):
        self.bins, self.classes, self.ignore_index = bins, classes, ignore_index
        shapes = {"counts": (3, bins), "outside": (), "nan": ()}
        self.state = {name: torch.zeros(shape, dtype=torch.int64, device=device) for name, shape in shapes.items()}

    @torch.no_grad()
    def update(self, confidence: Tensor, right: Tensor, target: Tensor) -> None:
        """Add one batch: confidences from 0 to 1, whether each is right, and targets in int64, all of one shape."""
        parts = (part.reshape(-1).split(_AT_ONCE) for part in (confidence, right, target))
        for score, hit, truth in zip(*parts, strict=True):
            wanted = torch.ones_like(hit) if self.ignore_index is None else truth != self.ignore_index
            inside, unknown = (truth >= 0) & (truth < self.classes), score.isnan()
            self.state["outside"] += (wanted & ~inside).sum()
            self.state["nan"] += (wanted & inside & unknown).sum()
            # What is left out counts as nothing: to index by a mask would make the step wait for the device.
            counted, sure = (wanted & inside & ~unknown).long(), score.nan_to_num(0.0).double()
            place = (sure * self.bins).long().clamp_(max=self.bins - 1)  # a confidence of 1 is in the last bin
            values = torch.stack([counted, counted * hit, counted * (sure * _ONE).round().long()])
            self.state["counts"].scatter_add_(1, place.expand(3, -1), values)


def reliability(counts: Tensor) -> Tensor:
    """Return share of predictions, accuracy and mean confidence per bin, [3, B] float64; NaN in an empty bin."""
    predictions, right, confidence = counts.double()
    return torch.stack([predictions / predictions.sum(), right / predictions, confidence / _ONE / predictions])
