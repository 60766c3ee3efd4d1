"""What the losses of this data set have beside those of any mask: weights near edges, and pseudo-labels.

Where the label is ``UNLABELLED``, the model's own prediction stands in for the truth once it is confident (D.-H. Lee,
"Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", 2013), and before
that the pixel is left out.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.callbacks.toolkit import spread
from assay.runner import LossTerm, MeanLoss, make_loss

from ..segmentation_nets import deep_output
from .data import UNLABELLED
from .tiles import IGNORED

LOSSES = ("bce", "soft_bce", "edge_bce", "focal", "dice", "jaccard", "lovasz")
EDGE_WEIGHT, EDGE_REACH = 4.0, 3


def loss_terms(weights: Mapping[str, float], deep_supervision: Mapping[int, float]) -> tuple[LossTerm, ...]:
    """Return a term for each loss of the output, and of each output of deep supervision times its own weight.

    Args:
        weights: of the losses.
        deep_supervision: the weight of each stride's output.
    """
    outputs = {"logits": ("", 1.0)} | {
        deep_output(stride): (f"_{stride}", share) for stride, share in deep_supervision.items()
    }
    return tuple(
        LossTerm(output, "labels", name, weight * share, f"loss_{name}{suffix}")
        for output, (suffix, share) in outputs.items()
        for name, weight in weights.items()
    )


def make_criterion(name: str, confidence: float | None = None) -> nn.Module:
    """Return the loss of a name, of logits [N, 1, H, W] and labels [N, H, W].

    Args:
        name: one of ``LOSSES``. In ``edge_bce`` a pixel that is at most 3 pixels from a border of the truth counts 4
            times; for the others see ``make_loss``.
        confidence: probability from which on a prediction stands in for a label that there is not; None: there are all.
    """
    loss = EdgeLoss() if name == "edge_bce" else make_loss(name, "binary", ignore_index=IGNORED)
    return loss if confidence is None else PseudoLabelled(loss, confidence)


class EdgeLoss(MeanLoss):
    """Binary cross entropy, in which pixels near a border of the truth count more."""

    def __init__(self) -> None:
        super().__init__("binary", ignore_index=IGNORED)

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, truth, reduction="none")

    def weigh(self, target: Tensor) -> Tensor:
        counted = self.counted(target).float()
        near = near_edges((target == 1).float().unsqueeze(1), counted.unsqueeze(1), EDGE_REACH).squeeze(1)
        return counted * (1 + (EDGE_WEIGHT - 1) * near)


class PseudoLabelled(nn.Module):
    """A loss for which the model's own confident predictions stand in for labels that there are not.

    What it counts depends on predictions, so that batches weigh by their samples.

    Args:
        loss: of logits [N, 1, H, W] and labels [N, H, W] with 0, 1 and ``IGNORED``.
        confidence: see ``make_criterion``.
    """

    def __init__(self, loss: Any, confidence: float):
        super().__init__()
        self.loss, self.confidence = loss, confidence

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.loss(logits, self.settle(logits, labels))
        return loss

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each sample, [N]."""
        losses: Tensor = self.loss.sample_losses(logits, self.settle(logits, labels))
        return losses

    def settle(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the labels with the signs of confident logits in the place of ``UNLABELLED``, else ``IGNORED``."""
        predicted = logits.detach().float().reshape(labels.shape)
        sure = predicted.abs() >= math.log(self.confidence / (1 - self.confidence))
        stand_in = torch.where(sure, (predicted > 0).to(labels.dtype), IGNORED)
        return torch.where(labels == UNLABELLED, stand_in, labels)


def near_edges(truth: Tensor, counted: Tensor, reach: int) -> Tensor:
    """Return 1.0 where both house and ground are at most ``reach`` pixels away, in rows and in columns.

    Args:
        truth: 0.0 and 1.0, [N, 1, H, W].
        counted: which pixels count, [N, 1, H, W].
        reach: see above.
    """
    return spread(truth * counted, reach) * spread((1 - truth) * counted, reach)
