"""What kind of target a run's criterion takes: its class tells where shapes do not."""

from typing import Any

from catalyst import dl
from torch import nn

from .runner_view import criterion_of, loss_terms
from .sample_losses import pick_criterion

_KINDS = {
    "classes": (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss),
    "labels": (nn.BCEWithLogitsLoss, nn.BCELoss, nn.MultiLabelSoftMarginLoss),
    "numbers": (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss),
}
_MODES = {"multiclass": "classes", "binary": "labels", "multilabel": "labels"}


def target_kind(runner: dl.IRunner, output_key: str, target_key: str, criterion_key: str | None = None) -> str | None:
    """Return what the criterion that compares two parts of the batch takes for a target.

    Args:
        runner: any Catalyst runner; of one with ``losses``, such as ``DictRunner``, the term of both keys counts.
        output_key: of the batch.
        target_key: of the batch.
        criterion_key: of the criterion to ask, where there are several by name.

    Returns:
        ``classes`` (one of several, or shares of them), ``labels`` (yes or no each) or ``numbers``; None where the
        criterion is of another class, and has no ``mode`` of this name as the losses of pytorch-toolbelt have.
    """
    named = None if criterion_key is None else pick_criterion(runner.criterion, criterion_key)
    criterion = _criterion(runner, output_key, target_key) if named is None else named
    for kind, classes in _KINDS.items():
        if isinstance(criterion, classes):
            return kind
    mode = getattr(criterion, "mode", None)
    return _MODES.get(mode) if isinstance(mode, str) else None


def _criterion(runner: dl.IRunner, output_key: str, target_key: str) -> Any:
    terms, criterion = loss_terms(runner), criterion_of(runner)
    if terms is None or criterion is None:
        return pick_criterion(criterion, None)
    fitting = [term for term in terms if (term.output, term.target) == (output_key, target_key)]
    return fitting[0].pick_criterion(criterion) if fitting else None
