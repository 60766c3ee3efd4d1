"""Finds the kind of target that a run has (classes, labels or numbers) by the class of its criterion."""

from typing import Any

from catalyst import dl
from torch import nn

from ..support.runner_view import criterion_of, loss_terms
from ..support.sample_losses import pick_criterion

# Needed as shapes alone cannot separate labels from one-hot classes or from numbers.
_KINDS = {
    "classes": (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss),
    "labels": (nn.BCEWithLogitsLoss, nn.BCELoss, nn.MultiLabelSoftMarginLoss),
    "numbers": (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss),
}
# The losses of pytorch-toolbelt name their task by an attribute ``mode``.
_MODES = {"multiclass": "classes", "binary": "labels", "multilabel": "labels"}


def target_kind(runner: dl.IRunner, output_key: str, target_key: str, criterion_key: str | None = None) -> str | None:
    """Return which kind of target the criterion takes that compares two parts of the batch.

    Args:
        runner: any Catalyst runner; if it has ``losses``, as ``DictRunner`` has, the term with both keys counts.
        output_key: key of the outputs in the batch.
        target_key: key of the targets in the batch.
        criterion_key: which of several criteria by name is asked.

    Returns:
        ``classes`` (one of several, or shares of them), ``labels`` (yes or no each) or ``numbers``; None if the
        criterion is of another class without a known ``mode``.
    """
    named = None if criterion_key is None else pick_criterion(runner.criterion, criterion_key)
    criterion = _criterion_of_term(runner, output_key, target_key) if named is None else named
    for kind, classes in _KINDS.items():
        if isinstance(criterion, classes):
            return kind
    mode = getattr(criterion, "mode", None)
    return _MODES.get(mode) if isinstance(mode, str) else None


def _criterion_of_term(runner: dl.IRunner, output_key: str, target_key: str) -> Any:
    terms, criterion = loss_terms(runner), criterion_of(runner)
    if terms is None or criterion is None:
        return pick_criterion(criterion, None)
    fitting = [term for term in terms if (term.output, term.target) == (output_key, target_key)]
    return fitting[0].pick_criterion(criterion) if fitting else None
