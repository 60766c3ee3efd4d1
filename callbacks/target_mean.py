"""What torch's losses over classes divide by: the sum of the weights of the targets that count."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_FUNCTIONS: tuple[Callable[..., Tensor], ...] = (nn.functional.cross_entropy, nn.functional.nll_loss)
_MODULES = (nn.CrossEntropyLoss, nn.NLLLoss)


@dataclass(frozen=True)
class TargetMean:
    """A criterion of torch whose mean is over the targets that count.

    Attributes:
        criterion: a function of output and target with a keyword ``reduction``.
        weight: of each class, [C]; None: all count the same.
        ignore_index: the target that does not count.
        adds_up: whether the criterion gives the sum itself, not the mean.
    """

    criterion: Callable[..., Tensor]
    weight: Tensor | None
    ignore_index: int
    adds_up: bool

    def sum(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the losses of all targets, []: 0 with a gradient of 0 where none counts."""
        return self.criterion(output, class_numbers(target), reduction="sum")

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each target, weighted, [N, ...]: 0 where it does not count."""
        return self.criterion(output, class_numbers(target), reduction="none")

    def count(self, target: Tensor) -> Tensor:
        """Return what the mean over a batch divides by, [] float64: 0 where nothing counts."""
        return self._weights(target).sum(dtype=torch.float64)

    def counts(self, target: Tensor) -> Tensor:
        """Return for each sample what the criterion on it alone divides by, [N]."""
        weights = self._weights(target)
        return weights.reshape(len(weights), -1).sum(dim=1)

    def known_count(self, target: Tensor, *, only_classes: bool = False) -> int | None:
        """Return the count of a batch where no value has to be looked at for it, so that nothing is computed.

        Args:
            target: of the batch.
            only_classes: whether all targets are known to be classes that count.
        """
        if _is_shares(target):
            return target[:, 0].numel()
        return target.numel() if only_classes and self.weight is None else None

    def divisor(self, count: Tensor) -> Tensor:
        """Return a count, with 1 in the place of 0."""
        return count.clamp(min=1) if self.weight is None else count.masked_fill(count == 0, 1)

    def _weights(self, target: Tensor) -> Tensor:
        if _is_shares(target):
            return torch.ones_like(target[:, 0])
        target = class_numbers(target)
        counts = target != self.ignore_index
        if self.weight is None:
            return counts
        # What is no class is the criterion's own error to raise.
        weights = self.weight.detach()[target.clamp(0, len(self.weight) - 1)]
        return weights.masked_fill(~counts, 0)


def class_numbers(target: Any) -> Any:
    """Return a target as losses over classes take it: integers of any type, as masks are stored in, as int64."""
    is_whole = isinstance(target, Tensor) and not target.is_floating_point() and not target.is_complex()
    return target.long() if is_whole else target


def _is_shares(target: Tensor) -> bool:
    """Whether targets are probabilities [N, C, ...], of which each place counts once, whatever weighs."""
    return target.is_floating_point() and target.ndim > 1


def target_mean(criterion: Any) -> TargetMean | None:
    """Return how a criterion's mean over targets is made.

    Returns:
        None where it is not ``nn.CrossEntropyLoss``, ``nn.NLLLoss``, a subclass with their ``forward``, or their
        function in ``torch.nn.functional``, alone or in a ``partial`` by keywords.
    """
    if isinstance(criterion, _MODULES):
        kind = next(kind for kind in _MODULES if isinstance(criterion, kind))
        if type(criterion).forward is not kind.forward or criterion.reduction not in ("mean", "sum"):
            return None
        return TargetMean(
            partial(_reduced, criterion), criterion.weight, criterion.ignore_index, criterion.reduction == "sum"
        )
    return _of_function(criterion)


def _of_function(criterion: Any) -> TargetMean | None:
    function, options = criterion, {}
    if isinstance(criterion, partial) and not criterion.args:
        function, options = criterion.func, criterion.keywords
    if function not in _FUNCTIONS or options.keys() & {"size_average", "reduce"}:
        return None
    given = inspect.signature(function).bind_partial(**options)
    given.apply_defaults()
    named = given.arguments
    if named["reduction"] not in ("mean", "sum"):
        return None
    return TargetMean(criterion, named["weight"], named["ignore_index"], named["reduction"] == "sum")


def _reduced(criterion: nn.Module, output: Tensor, target: Tensor, *, reduction: str) -> Tensor:
    other = copy.copy(criterion)
    other.reduction = reduction  # type: ignore[assignment]
    losses: Tensor = other(output, target)
    return losses
