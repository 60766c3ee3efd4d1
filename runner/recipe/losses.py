"""``LossTerm``: one term of the weighted sum that is minimized."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import OUTPUT_KEY, TARGET_KEY, pick
from assay.callbacks.support.target_mean import class_numbers, target_mean

Count = str | Callable[..., Any]


@dataclass(frozen=True)
class LossTerm:
    """One term: ``weight * criterion(batch[output], batch[target])``.

    A criterion is a mean, and a mean is over something: what it divides by on a batch is the batch's weight in an
    optimizer step of several batches or ranks, and in the loss of an epoch. So both are what the criterion gives for
    all samples at once. It is known for ``nn.CrossEntropyLoss`` and ``nn.NLLLoss`` (the sum of the class weights of
    the targets that are not ``ignore_index``), as modules, functions of ``nn.functional`` and ``partial`` of these.
    With ``reduction="sum"`` batches add up. A criterion with a method ``count_targets``, as those of ``make_loss``,
    says itself what the mean over each sample of a target divides by, [N]. **Any other criterion is taken for a mean
    over samples**, as torch's are where samples are of one size; for one that leaves pixels or samples out, give
    ``count``. Where that is seen in what it calls or in the targets, a warning says so. A ratio over a whole batch, as
    Dice, is no mean of anything: a step of several batches takes the mean of theirs.

    Attributes:
        output: name of the model's output.
        target: name of the target in the batch.
        criterion: which criterion, where there are several by name; None where there is one.
        weight: factor of the term.
        name: what the term is logged as; by default ``loss_`` and the criterion's name, or the output's.
        count: what the criterion divides by on a batch: a function of the target, or of output and target, that
            returns one number (a tensor on the device, so that nothing waits), or a key of the batch, whose values are
            summed up, as of a mask. One that asks for the output is not known before the batches of a step have gone
            through: it is for training on one process, without accumulation. ``count=len`` counts samples. A batch of
            which nothing counts, so that it is 0, adds nothing.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> batch = {"logits": torch.tensor([[2.0, 0.0], [0.0, 0.0]]), "target": torch.tensor([0, 1])}
        >>> term = LossTerm("logits", "target", weight=0.5)
        >>> term.label, round(term.compute(nn.CrossEntropyLoss(), batch).item(), 4)
        ('loss_logits', 0.41)
        >>> masked = LossTerm("logits", "mask", count=lambda mask: (mask != 255).sum())
    """

    output: str = OUTPUT_KEY
    target: str = TARGET_KEY
    criterion: str | None = None
    weight: float = 1.0
    name: str | None = None
    count: Count | None = None

    def __str__(self) -> str:
        return f"LossTerm({self.output!r}, {self.target!r})"

    @property
    def label(self) -> str:
        """The name that the term is logged as."""
        return self.name or f"loss_{self.criterion or self.output}"

    @property
    def is_plain(self) -> bool:
        """Whether its value is that of the criterion for output and target, whatever else the batch holds."""
        return type(self).compute is LossTerm.compute and self.count is None and self.weight == 1

    def pick_criterion(self, criterion: Any) -> Any:
        """Return this term's criterion of one or of several by name."""
        if isinstance(criterion, Mapping):
            # One criterion in a dict needs no name: there is nothing to choose.
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
        own = self.pick_criterion(criterion)
        # torch's losses over classes take int64, and masks are often stored as uint8; other targets stay as they are.
        loss: Tensor = own(output, target if target_mean(own) is None else class_numbers(target))
        return loss


def check_terms(terms: Sequence[LossTerm]) -> tuple[LossTerm, ...]:
    """Return the terms; raise where there is none, two share a name, or a count is of no use."""
    # Terms are logged by these names, and their sum as ``loss``.
    labels = [term.label for term in terms]
    if not labels:
        raise UsageError("losses must hold at least one LossTerm, got none.")
    for label in labels:
        if labels.count(label) > 1 or (label == "loss" and len(labels) > 1):
            raise UsageError(f"losses must have different names, none of them 'loss', got {labels}: pass name=...")
    for term in terms:
        if not (term.count is None or isinstance(term.count, str) or callable(term.count)):
            raise UsageError(f"{term} needs a count that is a key of the batch or a function, got {term.count!r}.")
    return tuple(terms)


def check_outputs(terms: Sequence[LossTerm], outputs: Mapping[str, Any], batch: Mapping[str, Any], loader: str) -> None:
    """Raise where a model gives in evaluation nothing that a term is of, as detectors give losses in training alone.

    Args:
        terms: of the loss; one that computes its value in a way of its own is left out.
        outputs: of the model, by name.
        batch: as the loader gave it.
        loader: its key.
    """
    # A compute of the user's own may need no output at all.
    stock = [term for term in terms if type(term).compute is LossTerm.compute]
    for term in stock:
        if term.output not in outputs and term.output not in batch:
            raise UsageError(
                f"loader {loader!r}: {term} asks for an output that the model does not give in evaluation, where it "
                f"gives {listing(outputs)}. Where its losses are of training alone, as a detector's, leave criterion "
                "out, which leaves out the loss in validation, and return the output from a LossTerm's own compute."
            )
