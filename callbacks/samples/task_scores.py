"""Logits to probabilities, by task."""

from torch import Tensor


def probabilities_of(logits: Tensor, task: str) -> Tensor:
    """Return the probability of each class or label, float32.

    Args:
        logits: [N, C, ...]; of ``binary`` and ``multilabel`` of any shape.
        task: ``multiclass``, ``binary`` or ``multilabel``.
    """
    # In float32: half precision rounds probabilities near 0 and 1 to these.
    return logits.float().softmax(dim=1) if task == "multiclass" else logits.float().sigmoid()
