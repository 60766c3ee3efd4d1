"""The loss of an epoch: the mean of each term over a loader, as its criterion gives it for all samples at once."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .loss_counts import Counted, Number, on_device


class LossMeans:
    """The mean of each term of the loss over a loader, each over what its criterion counts, and their weighted sum.

    The state lives on the device of the values, and is valid before the first update.

    Args:
        terms: of the loss.
        device: where their values are.
    """

    reductions = {"total": "sum", "count": "sum"}

    def __init__(self, terms: Sequence[Counted], device: torch.device | str = "cpu"):
        self.labels = [counted.term.label for counted in terms]
        self.weights = [counted.term.weight for counted in terms]
        self.add_up = [counted.adds_up for counted in terms]
        self.by_samples = False  # in an epoch that an older version began, which weighed all terms by samples
        # float64: sums over an epoch of any length lose nothing.
        zeros = torch.zeros(len(terms), dtype=torch.float64, device=device)
        self.state = {"total": zeros, "count": zeros.clone()}

    def update(self, values: Tensor, counts: Sequence[Number], samples: int) -> None:
        """Add one batch.

        Args:
            values: [terms], of the batch.
            counts: of each term, what its value is a mean over.
            samples: number of samples in the batch.
        """
        weights = samples if self.by_samples else self._weigh(counts)
        if isinstance(weights, Tensor):
            self.state["total"] += values.detach().to(torch.float64) * weights
        else:
            self.state["total"].add_(values.detach(), alpha=weights)  # in float64, by one operation
        self.state["count"] += weights

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state; one of older versions weighs all terms by samples, and the epoch goes on so."""
        device, total = self.state["total"].device, state["total"]
        count = state.get("count")
        if count is None:
            # Older versions held the total of all terms first, and one weight for all.
            self.by_samples, self.add_up = True, [False] * len(self.labels)
            total, count = total[-len(self.labels) :], state["weight"].expand(len(self.labels)).clone()
        self.state = {"total": total.to(device), "count": count.to(device)}

    def compute(self, state: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Return ``loss`` and, of several, each term, of the reduced ``state`` where one is given. Reads the host once.

        A term of which nothing counted is NaN and adds nothing to ``loss``, unless none counted.
        """
        state = state or self.state
        # In one tensor, so that the host waits for the device once.
        totals, counts = torch.stack([state["total"], state["count"]]).tolist()
        sums = zip(totals, counts, self.add_up, strict=True)
        means = [total if adds_up else total / count if count else math.nan for total, count, adds_up in sums]
        counted = [weight * mean for weight, mean, count in zip(self.weights, means, counts, strict=True) if count]
        terms = dict(zip(self.labels, means, strict=True)) if len(means) > 1 else {}
        return {"loss": sum(counted) if counted else math.nan, **terms}

    def _weigh(self, counts: Sequence[Number]) -> Number:
        first, *others = counts
        # A number of the host for all terms needs no tensor, and so no copy to the device.
        if not isinstance(first, Tensor) and all(not isinstance(count, Tensor) and count == first for count in others):
            return first
        if not others:
            return on_device(first, self.state["total"].device)
        return torch.stack([on_device(count, self.state["total"].device) for count in counts])
