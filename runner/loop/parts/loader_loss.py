"""The loss over a loader: of each batch by its terms, of each sample, and the means of the epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.callbacks.support.distributed import reduce_state
from assay.callbacks.support.sample_losses import NO_SCORE, weighted_sum

from ...recipe.loss_counts import Counted, Number, counted_terms
from ...recipe.loss_means import LossMeans
from ...recipe.losses import LossTerm
from ..checks.loss_watch import LossWatch
from ..checks.target_checks import TargetChecks


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch.

    Attributes:
        terms: of the loss.
        values: [] of each term, not weighted.
        counts: of each term, what its value is a mean over.
        total: [], the weighted sum of the terms, with its graph.
    """

    terms: Sequence[Counted]
    values: Sequence[Tensor]
    counts: Sequence[Number]
    total: Tensor

    def scaled(self, factors: Sequence[Number]) -> Tensor:
        """Return the weighted sum of the terms, [], each times its factor."""
        differ = any(isinstance(factor, Tensor) or factor != factors[0] for factor in factors)
        # Of one factor for all terms the sum that is there already is scaled: one operator, however many terms.
        if len(factors) == 1 or not differ:
            return scaled(self.total, factors[0])
        values = [scaled(value, factor) for value, factor in zip(self.values, factors, strict=True)]
        return _weighted_sum(self.terms, values)


def _weighted_sum(terms: Sequence[Counted], values: Sequence[Tensor]) -> Tensor:
    weighted = [scaled(value, counted.term.weight) for counted, value in zip(terms, values, strict=True)]
    return weighted[0] if len(weighted) == 1 else torch.stack(weighted).sum()


def scaled(value: Tensor, factor: Number) -> Tensor:
    """Return a value times a factor; no operator runs for a factor of 1."""
    if not isinstance(factor, Tensor) and factor == 1:
        return value
    return value * (factor.to(value.dtype) if isinstance(factor, Tensor) else factor)


class LoaderLoss:
    """The loss on the batches of one loader.

    Args:
        losses: its terms; none for a loader that has no loss.
        criterion: one, or several by name.
        targets: looks at the targets of each batch before a criterion sees them.
        watch: looks at terms of which it is not known what they are means over.
        device: where the means are kept.
    """

    def __init__(
        self,
        losses: Sequence[LossTerm],
        criterion: Any,
        targets: TargetChecks,
        watch: LossWatch,
        device: torch.device | str,
    ):
        self.losses = losses
        self.criterion = criterion
        self.terms = counted_terms(losses, criterion)
        self.means = LossMeans(self.terms, device)
        self._targets = targets
        self._watch = watch

    def compute(self, parts: Mapping[str, Any], samples: int) -> BatchLoss:
        """Return the loss of a batch with its outputs; of 0 ``samples`` nothing counts."""
        # On the host, where the loader left the targets: a GPU would end the run without a word on which was wrong.
        known = self._targets.check(self.losses, self.criterion, parts)
        values, counts = [], []
        for counted, only_classes in zip(self.terms, known, strict=True):
            naming = self._targets.naming(counted.term, self.criterion, parts)
            with naming, self._watch.looking(counted, self._targets.given):
                value, count = counted.value(parts, samples, only_classes=only_classes)
            values.append(value)
            counts.append(count)
        return BatchLoss(self.terms, values, counts, _weighted_sum(self.terms, values))

    def accumulate(self, loss: BatchLoss, samples: int) -> dict[str, Tensor]:
        """Add the terms of a batch to the means of the epoch, and return the values of several terms by name."""
        # One tensor for all terms, so that their sums and counts take one operator each, however many there are.
        values = loss.values
        packed = values[0].detach().reshape(1) if len(values) == 1 else torch.stack([*values]).detach()
        self.means.update(packed, loss.counts, samples)
        labels = self.means.labels
        return dict(zip(labels, packed.unbind(), strict=True)) if len(labels) > 1 else {}

    def device_counts(self, loss: BatchLoss) -> dict[str, Tensor]:
        """Return what a batch counts, by term and for ``loss``, where only the device knows whether it is nothing."""
        labels = self.means.labels
        found = {of: count for of, count in zip(labels, loss.counts, strict=True) if isinstance(count, Tensor)}
        if len(found) == len(labels):
            first, *others = found.values()
            found["loss"] = torch.stack([first, *others]).amax() if others else first
        return found

    def sample_losses(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the loss of each sample, [N]: the weighted sum of all terms, of a batch with its outputs."""
        known = self._targets.known(self.losses, self.criterion, parts)
        of_terms = [
            counted.sample_losses(parts, NO_SCORE, all_count=all_count)
            for counted, all_count in zip(self.terms, known, strict=True)
        ]
        return weighted_sum(of_terms, [counted.term.weight for counted in self.terms])

    def reduce_means(self) -> dict[str, float]:
        """Return the means of the epoch over all ranks. A collective."""
        # Sums and counts are reduced, not means: ranks have batches of different sizes.
        return self.means.compute(reduce_state(self.means.state, self.means.reductions))
