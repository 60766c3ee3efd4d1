"""The terms that a loss is the weighted sum of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import OUTPUT_KEY, TARGET_KEY, pick


@dataclass(frozen=True)
class LossTerm:
    """One term: ``weight * criterion(batch[output], batch[target])``.

    Attributes:
        output: name of the model's output.
        target: name of the target in the batch.
        criterion: which criterion, where there are several by name; None where there is one.
        weight: factor of the term.
        name: what the term is logged as; by default ``loss_`` and the criterion's name, or the output's.
    """

    output: str = OUTPUT_KEY
    target: str = TARGET_KEY
    criterion: str | None = None
    weight: float = 1.0
    name: str | None = None

    def __str__(self) -> str:
        return f"LossTerm({self.output!r}, {self.target!r})"

    @property
    def label(self) -> str:
        """The name that the term is logged as."""
        return self.name or f"loss_{self.criterion or self.output}"

    def pick_criterion(self, criterion: Any) -> Any:
        """Return this term's criterion of one or of several by name."""
        if isinstance(criterion, Mapping):
            if self.criterion is None and len(criterion) == 1:
                return next(iter(criterion.values()))
            if self.criterion not in criterion:
                raise UsageError(f"{self} names a criterion that there is not; there is {listing(criterion)}.")
            return criterion[self.criterion]
        if criterion is None:
            raise UsageError(f"{self} needs a criterion, got None: pass criterion=... to train().")
        return criterion

    def compute(self, criterion: Any, batch: Mapping[str, Any]) -> Tensor:
        """Return the term's value, unweighted, from a batch that holds inputs and outputs."""
        output = pick(batch, self.output, str(self))
        target = pick(batch, self.target, str(self))
        loss: Tensor = self.pick_criterion(criterion)(output, target)
        return loss


def check_terms(terms: Sequence[LossTerm]) -> tuple[LossTerm, ...]:
    """Return the terms; raise where there is none or two share a name."""
    labels = [term.label for term in terms]
    if not labels:
        raise UsageError("losses must hold at least one LossTerm, got none.")
    for label in labels:
        if labels.count(label) > 1 or (label == "loss" and len(labels) > 1):
            raise UsageError(f"losses must have different names, none of them 'loss', got {labels}: pass name=...")
    return tuple(terms)
