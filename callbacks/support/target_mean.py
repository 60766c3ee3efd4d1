"""The divisor of the mean in torch's losses over classes: the sum of the weights of the targets that count."""

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
    """A criterion of torch that averages over the targets that count.

    Attributes:
        criterion: a function of output and target with a keyword ``reduction``.
        weight: per class, [C]; None: all count the same.
        ignore_index: the target that does not count.
        adds_up: whether the criterion returns the sum instead of the mean.
    """

    criterion: Callable[..., Tensor]
    weight: Tensor | None
    ignore_index: int
    adds_up: bool

    def sum(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the sum of the losses of all targets, []; 0 with a gradient of 0 if none counts."""
        return self.criterion(output, class_numbers(target), reduction="sum")

    def each(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the weighted loss of each target, [N, ...]; 0 for those that do not count."""
        return self.criterion(output, class_numbers(target), reduction="none")

    def count(self, target: Tensor) -> Tensor:
        """Return the divisor of the mean over a batch, [] float64; 0 if nothing counts."""
        # In float64: float32 counts exactly only up to 16.7 million, which the pixels of a batch may exceed.
        return self._weights_of(target).sum(dtype=torch.float64)

    def counts(self, target: Tensor) -> Tensor:
        """Return the divisor of the mean over each sample alone, [N]."""
        weights = self._weights_of(target)
        return weights.reshape(len(weights), -1).sum(dim=1)

    def known_count(self, target: Tensor, *, only_classes: bool = False) -> int | None:
        """Return the count of a batch if it follows from shapes alone; None if values decide.

        Args:
            target: of the batch.
            only_classes: whether all targets are known to be classes that count.
        """
        if _is_shares(target):
            return target[:, 0].numel()
        return target.numel() if only_classes and self.weight is None else None

    def divisor(self, count: Tensor) -> Tensor:
        """Return a count with 1 in place of 0."""
        return count.clamp(min=1) if self.weight is None else count.masked_fill(count == 0, 1)

    def _weights_of(self, target: Tensor) -> Tensor:
        if _is_shares(target):
            return torch.ones_like(target[:, 0])
        target = class_numbers(target)
        counts = target != self.ignore_index
        if self.weight is None:
            return counts
        # Clamped, as the criterion itself raises the error for a target that is no class.
        weights = self.weight.detach()[target.clamp(0, len(self.weight) - 1)]
        return weights.masked_fill(~counts, 0)


def class_numbers(target: Any) -> Any:
    """Return a target with integers of any type as int64."""
    # torch's losses take no other, and masks are often stored as uint8.
    is_whole = isinstance(target, Tensor) and not target.is_floating_point() and not target.is_complex()
    return target.long() if is_whole else target


def _is_shares(target: Tensor) -> bool:
    """Whether targets are probabilities [N, C, ...]; then each place counts once, whatever the weights."""
    return target.is_floating_point() and target.ndim > 1


def target_mean(criterion: Any) -> TargetMean | None:
    """Return how a criterion averages over targets.

    Returns:
        None if it is not ``nn.CrossEntropyLoss``, ``nn.NLLLoss``, a subclass with their ``forward``, or their
        function in ``torch.nn.functional``, alone or in a ``partial`` by keywords.
    """
    if isinstance(criterion, _MODULES):
        kind = next(kind for kind in _MODULES if isinstance(criterion, kind))
        if type(criterion).forward is not kind.forward or criterion.reduction not in ("mean", "sum"):
            return None
        return TargetMean(
            partial(_call_with_reduction, criterion),
            criterion.weight,
            criterion.ignore_index,
            criterion.reduction == "sum",
        )
    return _of_function(criterion)


def _of_function(criterion: Any) -> TargetMean | None:
    function, options = criterion, {}
    if isinstance(criterion, partial) and not criterion.args:
        function, options = criterion.func, criterion.keywords
    # The deprecated arguments change the reduction in ways of their own.
    if function not in _FUNCTIONS or options.keys() & {"size_average", "reduce"}:
        return None
    given = inspect.signature(function).bind_partial(**options)
    given.apply_defaults()
    named = given.arguments
    if named["reduction"] not in ("mean", "sum"):
        return None
    return TargetMean(criterion, named["weight"], named["ignore_index"], named["reduction"] == "sum")


def _call_with_reduction(criterion: nn.Module, output: Tensor, target: Tensor, *, reduction: str) -> Tensor:
    # A shallow copy, as the criterion itself must keep its reduction: other code may call it.
    other = copy.copy(criterion)
    other.reduction = reduction  # type: ignore[assignment]
    losses: Tensor = other(output, target)
    return losses
