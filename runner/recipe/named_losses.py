"""Losses by name, for classes and masks, and weighted sums of them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.errors import UsageError, unknown_name
from assay.callbacks.keys import OUTPUT_KEY, TARGET_KEY

from .loss_names import LOSSES, parse_loss
from .losses import LossTerm
from .mean_losses import BCELoss, FocalLoss
from .region_losses import DiceLoss, JaccardLoss, LovaszLoss

TASKS = ("multiclass", "multilabel", "binary")

_OF_REGIONS = {"dice": DiceLoss, "jaccard": JaccardLoss, "lovasz": LovaszLoss}
_SMOOTHED = ("cross_entropy", "bce")
_SOFT = 0.2  # label smoothing of soft_bce: yes is 0.9, no is 0.1
_NO_CLASS = -100  # torch's own default of ignore_index


def loss_terms(loss: str, *, output: str = OUTPUT_KEY, target: str = TARGET_KEY) -> tuple[LossTerm, ...]:
    """Return a term for each loss of a sum such as ``bce + 0.5*dice``, for ``get_losses`` beside ``make_losses``.

    Args:
        loss: the sum.
        output: name of the model's output.
        target: name of the target in the batch.

    Raises:
        UsageError: see ``parse_loss``.
    """
    return tuple(LossTerm(output, target, name, weight) for name, weight in parse_loss(loss).items())


def make_losses(loss: str, task: str, *, label_smoothing: float = 0.0, **options: Any) -> dict[str, nn.Module]:
    """Return the criterion of each loss of a sum by its name, for ``get_criterion`` beside ``loss_terms``.

    Args:
        loss: the sum, such as ``bce + 0.5*dice``.
        task: see ``make_loss``.
        label_smoothing: for those of the losses that take it.
        options: all other arguments of ``make_loss``.

    Raises:
        UsageError: see ``parse_loss`` and ``make_loss``; ``label_smoothing`` or ``weights`` are given, and none of the
            losses takes them.

    Example:
        >>> {name: type(one).__name__ for name, one in make_losses("cross_entropy + dice", "multiclass").items()}
        {'cross_entropy': 'CrossEntropyLoss', 'dice': 'DiceLoss'}
    """
    names = list(parse_loss(loss))
    if label_smoothing and not set(names) & set(_SMOOTHED):
        raise UsageError(f"label_smoothing is for {' and '.join(_SMOOTHED)}, and loss is {loss!r}: leave it out.")
    if options.get("weights") is not None and task == "binary" and set(names) <= _OF_REGIONS.keys():
        raise UsageError(f"weights of classes have no use in {loss!r} of a single region: add bce, or leave them out.")
    smoothing = {name: label_smoothing if name in _SMOOTHED else 0.0 for name in names}
    return {name: make_loss(name, task, label_smoothing=smoothing[name], **options) for name in names}


def make_loss(
    name: str,
    task: str,
    *,
    ignore_index: int | None = None,
    weights: Sequence[float] | Tensor | None = None,
    label_smoothing: float = 0.0,
    gamma: float = 2.0,
) -> nn.Module:
    """Return a loss by its name, for classes of images or of pixels. It never makes a step wait for the device.

    ================= ====================================================================================
    name              the mean over targets of
    ================= ====================================================================================
    ``cross_entropy`` torch's cross entropy; for ``binary`` that of two classes, which is ``bce``
    ``bce``           binary cross entropy; for ``multiclass`` the mean over classes, each against the rest
    ``soft_bce``      the same with smoothed targets: 0.9 for yes and 0.1 for no
    ``focal``         cross entropy times ``(1 - p) ** gamma``, where p is the probability of the truth (T.-Y. Lin et
                      al., "Focal Loss for Dense Object Detection", 2017; without its alpha, which ``weights`` replace)
    name              a ratio of regions, of which the whole batch is one picture
    ``dice``          ``1 - 2 * |A * B| / (|A| + |B|)`` of probabilities, the mean over the classes or labels that occur
                      in the batch; 0 if none does
    ``jaccard``       ``1 - |A * B| / |A + B|``, likewise
    ``lovasz``        the Lovasz extension of the Jaccard loss (M. Berman et al., 2018): Lovasz-Softmax over the classes
                      that occur, or the Lovasz hinge of each label
    ================= ====================================================================================

    ============== ============================ ============================================================
    task           output                       target
    ============== ============================ ============================================================
    ``multiclass`` logits [N, C, ...]           class numbers [N, ...], or shares of classes [N, C, ...]
    ``multilabel`` logits [N, C, ...]           0 and 1, or shares between them, [N, C, ...]
    ``binary``     logits [N, 1, ...] or [N]    0 and 1, or shares between them, with or without the axis of 1
    ============== ============================ ============================================================

    A mean weighs each batch of a step or an epoch by the targets that count in it, so that both are what all samples at
    once give. A ratio of regions is no mean of anything: there batches count by their samples.

    Args:
        name: one of ``LOSSES``.
        task: ``multiclass``, ``multilabel`` or ``binary``.
        ignore_index: target value that has no part in the loss, nor in its gradient.
        weights: of classes [C], for ``binary`` [2]: a target weighs in the mean as much as its class. For
            ``multilabel`` [C], as ``pos_weight`` of torch: the factor of the loss where the label is 1. In a ratio of
            regions, the weight of each class or label in their mean; it has none for ``binary``.
        label_smoothing: share of a target that is spread evenly over all classes, or over yes and no.
        gamma: of ``focal``, at least 0.

    Raises:
        UsageError: an argument is unknown or out of range.

    Example:
        >>> dice = make_loss("dice", "binary", ignore_index=255)
        >>> print(f"{dice(torch.zeros(1, 1, 2, 2), torch.tensor([[[0, 1], [1, 255]]])):.4f}")
        0.4286
    """
    name = name.lower().replace("-", "_")
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    if task not in TASKS:
        raise unknown_name("task", task, TASKS)
    _check_smoothing(name, label_smoothing)
    if not 0 <= gamma < math.inf:
        raise UsageError(f"gamma must be at least 0, got {gamma}.")
    common: dict[str, Any] = {"ignore_index": ignore_index, "weights": _checked_weights(weights, task)}
    if name in _OF_REGIONS:
        return _OF_REGIONS[name](task, **common)
    if name == "focal":
        return FocalLoss(task, gamma=gamma, **common)
    if name == "cross_entropy" and task == "multilabel":
        raise UsageError("cross_entropy is for classes that exclude each other: for multilabel take bce.")
    if name == "cross_entropy" and task == "multiclass":
        ignored = _NO_CLASS if ignore_index is None else ignore_index
        return nn.CrossEntropyLoss(common["weights"], ignore_index=ignored, label_smoothing=label_smoothing)
    return BCELoss(task, label_smoothing=_SOFT if name == "soft_bce" else label_smoothing, **common)


def _check_smoothing(name: str, label_smoothing: float) -> None:
    """Raise a UsageError where ``label_smoothing`` is no share, or the loss takes none."""
    if not 0 <= label_smoothing < 1:
        raise UsageError(f"label_smoothing must be at least 0 and less than 1, got {label_smoothing}.")
    if label_smoothing and name not in _SMOOTHED:
        raise UsageError(f"label_smoothing is for {' and '.join(_SMOOTHED)}, and loss is {name!r}: leave it out.")


def _checked_weights(weights: Sequence[float] | Tensor | None, task: str) -> Tensor | None:
    if weights is None:
        return None
    found = torch.as_tensor(weights, dtype=torch.float32).detach().clone()
    if found.ndim != 1 or not found.numel() or not bool((found.isfinite() & (found >= 0)).all()):
        raise UsageError(f"weights must be one number of at least 0 per class, got {found.tolist()}.")
    if task == "binary" and len(found) != 2:
        raise UsageError(f"weights of a binary loss must be two, of 0 and of 1, got {found.tolist()}.")
    return found
