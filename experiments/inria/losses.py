"""Losses of segmentation by name, and weighted sums of them as one writes them down: ``bce + 0.5*dice``.

Pixels whose label is ``IGNORED`` have no part in any of them. Where the label is ``UNLABELLED``, the model's own
prediction stands in for the truth once it is confident (D.-H. Lee, "Pseudo-Label: The Simple and Efficient
Semi-Supervised Learning Method for Deep Neural Networks", 2013), and before the pixel is left out.
"""

import math
import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from assay.callbacks import UsageError
from assay.callbacks.errors import unknown_name
from assay.callbacks.toolkit import spread
from assay.runner import LossTerm

from .data import UNLABELLED
from .models import deep_output

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # toolbelt uses what torch retires
    from pytorch_toolbelt.losses import BinaryFocalLoss, BinaryLovaszLoss, DiceLoss, JaccardLoss, SoftBCEWithLogitsLoss

LOSSES = ("bce", "soft_bce", "edge_bce", "focal", "dice", "jaccard", "lovasz")
OF_REGIONS = ("dice", "jaccard", "lovasz")
SMOOTHING = 0.1
EDGE_WEIGHT, EDGE_REACH = 4.0, 3

_TERM = re.compile(r"(?:(?P<weight>[^*]+)\*)?(?P<name>[^*]+)")
_FAR = 1e4  # a logit so sure that a pixel adds nothing, within what half precision holds


def parse_loss(text: str) -> dict[str, float]:
    """Return the weight of each loss of a sum such as ``bce + 0.5*dice``.

    Raises:
        UsageError: a loss is unknown or stands there twice, or a weight is no number greater than 0.
    """
    weights: dict[str, float] = {}
    for term in text.replace(" ", "").lower().split("+"):
        parts = _TERM.fullmatch(term)
        if parts is None:
            raise UsageError(f"loss must be a sum of losses with weights, such as 'bce + 0.5*dice', got {text!r}.")
        weight, name = parts["weight"] or "1", parts["name"].replace("-", "_")
        if name not in LOSSES and weight in LOSSES:
            weight, name = name, weight  # dice*0.5
        if name not in LOSSES:
            raise unknown_name("loss", name, LOSSES)
        if name in weights:
            raise UsageError(f"loss must hold each loss once, got {name!r} twice in {text!r}.")
        weights[name] = _number(weight, text)
    return weights


def _number(text: str, loss: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"loss must have weights greater than 0, such as 'bce + 0.5*dice', got {text!r} in {loss!r}.")
    return number


def loss_terms(
    weights: Mapping[str, float], deep_supervision: Mapping[int, float], *, all_labelled: bool = True
) -> tuple[LossTerm, ...]:
    """Return a term for each loss of the output, and of each output of deep supervision times its own weight.

    A mean over pixels weighs its batch by those that count, unless predictions decide on that.

    Args:
        weights: of the losses.
        deep_supervision: the weight of each stride's output.
        all_labelled: whether no label is ``UNLABELLED``.
    """
    outputs = {"logits": ("", 1.0)} | {
        deep_output(stride): (f"_{stride}", share) for stride, share in deep_supervision.items()
    }
    return tuple(
        LossTerm(output, "labels", name, weight * share, f"loss_{name}{suffix}", _count(name) if all_labelled else None)
        for output, (suffix, share) in outputs.items()
        for name, weight in weights.items()
    )


def _count(name: str) -> Callable[[Tensor], Tensor] | None:
    if name in OF_REGIONS:
        return None
    return partial(count_pixels, edge_weight=EDGE_WEIGHT if name == "edge_bce" else 1.0)


def count_pixels(labels: Tensor, *, edge_weight: float = 1.0) -> Tensor:
    """Return what the mean over the pixels of labels [N, H, W], 0, 1 and ``IGNORED``, divides by: their weights, []."""
    counted = (labels <= 1).unsqueeze(1)
    return pixel_weights((labels == 1).unsqueeze(1).float(), counted, edge_weight).sum(dtype=torch.float64)


def pixel_weights(truth: Tensor, counted: Tensor, edge_weight: float) -> Tensor:
    """Return the weight of each pixel in a mean, [N, 1, H, W].

    Args:
        truth: 0.0 and 1.0, [N, 1, H, W].
        counted: which pixels count, [N, 1, H, W].
        edge_weight: of pixels near a border of the truth.
    """
    weights = counted.float()
    return weights if edge_weight == 1 else weights * (1 + (edge_weight - 1) * near_edges(truth, counted, EDGE_REACH))


def make_criterion(name: str, confidence: float) -> nn.Module:
    """Return the loss of a name, of logits [N, 1, H, W] and labels [N, H, W].

    Args:
        name: one of ``LOSSES``. ``soft_bce`` smooths labels by 0.1; in ``edge_bce`` a pixel that is at most 3 pixels
            from a border of the truth counts 4 times; ``focal`` has gamma 2; ``dice``, ``jaccard`` and ``lovasz`` take
            the batch as one picture.
        confidence: probability from which on a prediction stands in for a label that there is not.
    """
    if name == "dice":
        return RegionLoss(DiceLoss("binary"), confidence)
    if name == "jaccard":
        return RegionLoss(JaccardLoss("binary"), confidence)
    if name == "lovasz":
        return RegionLoss(BinaryLovaszLoss(), confidence)
    if name == "soft_bce":
        soft = SoftBCEWithLogitsLoss(ignore_index=None, reduction="none", smooth_factor=SMOOTHING)
        return PixelLoss(soft, confidence)
    if name == "focal":
        return PixelLoss(BinaryFocalLoss(gamma=2.0, reduction="none"), confidence)
    return PixelLoss(nn.BCEWithLogitsLoss(reduction="none"), confidence, EDGE_WEIGHT if name == "edge_bce" else 1.0)


class PixelLoss(nn.Module):
    """The mean of a loss over the pixels that count, weighted.

    Args:
        per_pixel: maps logits and truth [N, 1, H, W] to losses [N, 1, H, W].
        confidence: see ``make_criterion``.
        edge_weight: weight of pixels near a border of the truth.
    """

    def __init__(self, per_pixel: nn.Module, confidence: float, edge_weight: float = 1.0):
        super().__init__()
        self.per_pixel, self.confidence, self.edge_weight = per_pixel, confidence, edge_weight

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self._mean(logits, labels, (0, 1, 2, 3))

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean of each sample, [N]."""
        return self._mean(logits, labels, (1, 2, 3))

    def _mean(self, logits: Tensor, labels: Tensor, axes: tuple[int, ...]) -> Tensor:
        logits = logits.float()
        truth, counted = settle(logits, labels, self.confidence)
        weights = pixel_weights(truth, counted, self.edge_weight)
        total: Tensor = (self.per_pixel(logits, truth) * weights).sum(dim=axes)
        return total / weights.sum(dim=axes).clamp(min=1)


class RegionLoss(nn.Module):
    """A loss of two regions: what does not count is made background that is surely seen, which adds nothing.

    Leaving pixels out by a mask would make the step wait for a GPU.

    Args:
        of_regions: maps logits and truth [N, 1, H, W] to one number.
        confidence: see ``make_criterion``.
    """

    def __init__(self, of_regions: nn.Module, confidence: float):
        super().__init__()
        self.of_regions, self.confidence = of_regions, confidence

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        truth, counted = settle(logits, labels, self.confidence)
        kept = torch.where(counted, logits, -_FAR).contiguous()
        loss: Tensor = self.of_regions(kept, truth * counted)
        return loss


def settle(logits: Tensor, labels: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """Return the truth, 0.0 and 1.0, and which pixels count, both in the shape of the logits [N, 1, H, W].

    Args:
        logits: of the model; they stand in where the label is ``UNLABELLED``, and get no gradient by that.
        labels: [N, H, W]; 0, 1, ``UNLABELLED``, and ``IGNORED`` or anything else for pixels that do not count.
        confidence: probability from which on they do.
    """
    labels, predicted = labels.reshape(logits.shape), logits.detach()
    unlabelled = labels == UNLABELLED
    sure = predicted.abs() >= math.log(confidence / (1 - confidence))
    truth = torch.where(unlabelled, predicted > 0, labels == 1)
    return truth.float(), (labels <= 1) | (unlabelled & sure)


def near_edges(truth: Tensor, counted: Tensor, reach: int) -> Tensor:
    """Return 1.0 where both house and ground are at most ``reach`` pixels away, in rows and in columns."""
    return spread(truth * counted, reach) * spread((1 - truth) * counted, reach)
