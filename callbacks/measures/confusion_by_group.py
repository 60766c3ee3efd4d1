"""Confusion matrices by group of samples, counted without reading the device."""

from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions


@stored_as("ConfusionByGroup")
class ConfusionByGroup:
    """Counts of pairs of true and predicted class over a loader, one matrix per group.

    The state lives on the device, in int64, and is valid before the first update. ``counts`` is [G, C, C]: by group,
    true class and predicted class. ``outside`` is the number of targets that were no class, ``ungrouped`` that of
    samples that were in no group; both are left out.

    Args:
        groups: G, number of groups.
        classes: C, number of classes.
        ignore_index: target value that is left out; None: no value is.
        device: where the tensors are.
    """

    reductions: ClassVar[Reductions] = {"counts": "sum", "outside": "sum", "ungrouped": "sum"}

    def __init__(self, groups: int, classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"):
        self.ignore_index = ignore_index
        self.state = {
            "counts": torch.zeros((groups, classes, classes), dtype=torch.int64, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
            "ungrouped": torch.zeros((), dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor, group: Tensor) -> None:
        """Add one batch.

        Args:
            predicted: int64, class numbers from 0 to C - 1, [N, ...].
            target: the same, of any type; its shape may differ by axes of length 1.
            group: numbers from 0 to G - 1, [N], of any integer type.
        """
        groups, classes = self.state["counts"].shape[:2]
        target = target.to(torch.int64).reshape(predicted.shape)
        group = group.to(torch.int64).reshape(-1, *[1] * (predicted.ndim - 1)).expand(predicted.shape)
        # Left out: ignored targets, no classes, and samples of no group. The last two may be mistakes and are counted.
        wanted = torch.ones_like(target, dtype=torch.bool)
        if self.ignore_index is not None:
            wanted = target != self.ignore_index
        is_class, in_group = (target >= 0) & (target < classes), (group >= 0) & (group < groups)
        self.state["outside"] += (wanted & ~is_class).sum()
        self.state["ungrouped"] += (wanted & is_class & ~in_group).sum()
        inside = wanted & is_class & in_group
        cell = (group * classes + target) * classes + predicted
        # What is left out counts 0, in the first cell: indexing by a mask would wait for the device.
        places, ones = torch.where(inside, cell, 0).reshape(-1), inside.to(torch.int64).reshape(-1)
        self.state["counts"].view(-1).scatter_add_(0, places, ones)
