"""Means of batch values over an epoch, weighted by samples."""

from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions


@stored_as("WeightedMean")
class WeightedMean:
    """Means of several named values over all samples of a loader.

    The state lives on the device of the values and is valid before the first update, when every mean is NaN.

    Args:
        names: of the values.
        device: where the values are.
    """

    reductions: ClassVar[Reductions] = {"total": "sum", "weight": "sum"}

    def __init__(self, names: list[str], device: torch.device | str = "cpu"):
        self.names = names
        # In float64, as float32 stops counting samples at 16.8 million.
        self.state = {
            "total": torch.zeros(len(names), dtype=torch.float64, device=device),
            "weight": torch.zeros((), dtype=torch.float64, device=device),
        }

    def update(self, values: Tensor, samples: int | Tensor) -> None:
        """Add one batch.

        Args:
            values: [len(names)], the means over the batch.
            samples: number of samples of the batch that count; [] on the device where it is known there.
        """
        # A mean times its samples is the sum, which adds up over batches and ranks of any size.
        self.state["total"] += values.detach().to(torch.float64) * samples
        self.state["weight"] += samples

    def compute(self, state: dict[str, Tensor] | None = None) -> dict[str, float]:
        """Return the mean of each value, of the reduced ``state`` where one is given. Reads the host once."""
        state = state or self.state
        means = (state["total"] / state["weight"]).tolist()
        return dict(zip(self.names, means, strict=True))
