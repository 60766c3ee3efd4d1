"""Telling from outputs and targets which task they belong to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TASKS = ("binary", "multiclass", "multilabel", "detection")

_LOOKED_AT = 64  # pixels a side, of which the values of a target are looked at


def find_task(
    outputs: Sequence[Any] | None,
    targets: Sequence[Any] | None,
    task: str | None = None,
    ignore_index: int | None = None,
) -> str | None:
    """Return the task; None where there is none that fits.

    Dicts are a detection. Of arrays, the shapes of output and target of one sample decide:

    =================== ====================== =============
    output              target                 task
    =================== ====================== =============
    one number          one number             binary
    [C], C > 1          one number             multiclass
    [C], C > 1          [C]                    multilabel
    [H, W], [1, H, W]   [H', W'], [1, H', W']  binary
    [C, H, W], C > 1    [H', W'], [1, H', W']  multiclass
    [C, H, W], C > 1    [C, H', W']            multilabel
    =================== ====================== =============

    A target that is not made of whole numbers (for binary and multilabel: of 0 and 1), apart from ``ignore_index``,
    belongs to a regression, which is no task here.

    Args:
        outputs: of N samples, N arrays or dicts.
        targets: likewise.
        task: where it is known; None is returned where the shapes do not fit it. A target [C] of multiclass is one of
            probabilities.
        ignore_index: target value that does not count.
    """
    if outputs is None or targets is None or not len(outputs) or len(outputs) != len(targets):
        return None
    if isinstance(outputs[0], Mapping) or isinstance(targets[0], Mapping):
        return "detection" if _are_detections(outputs, targets) and task in (None, "detection") else None
    shapes = {(np.shape(output), np.shape(target)) for output, target in zip(outputs, targets, strict=True)}
    if task is not None:
        return task if all(_fits(task, *pair, soft=True) for pair in shapes) else None
    for name in ("binary", "multiclass", "multilabel"):
        if all(_fits(name, *pair) for pair in shapes):
            whole = all(_is_whole(np.asarray(target), name != "multiclass", ignore_index) for target in targets)
            return name if whole else None
    return None


def has_masks(outputs: Sequence[Any]) -> bool:
    """Whether the outputs have spatial axes."""
    return np.ndim(outputs[0]) > 1


def _are_detections(outputs: Sequence[Any], targets: Sequence[Any]) -> bool:
    return all(
        isinstance(part, Mapping) and all(key in part for key in keys)
        for parts, keys in ((outputs, ("boxes", "scores", "labels")), (targets, ("boxes", "labels")))
        for part in parts
    )


def _fits(task: str, output: tuple[int, ...], target: tuple[int, ...], *, soft: bool = False) -> bool:
    single = target in ((), (1,))
    plane = len(target) == 2 or (len(target) == 3 and target[0] == 1)
    if task == "binary":
        flat = len(output) == 2 or (len(output) == 3 and output[0] == 1)
        return (output in ((), (1,)) and single) or (flat and plane)
    if task == "multiclass":
        if len(output) == 1:
            return output[0] > 1 and (single or (soft and target == output))
        return len(output) == 3 and output[0] > 1 and plane
    if task == "multilabel":
        return (len(output) == len(target) == 1 and output == target) or (
            len(output) == len(target) == 3 and output[0] == target[0]
        )
    return False


def _is_whole(target: np.ndarray, yes_or_no: bool, ignore_index: int | None) -> bool:
    if target.ndim >= 2:
        rows, columns = (max(1, side // _LOOKED_AT) for side in target.shape[-2:])
        target = target[..., ::rows, ::columns]
    if yes_or_no:
        return bool(((target == 0) | (target == 1) | (target == ignore_index)).all())
    return target.dtype.kind in "iub" or bool((np.isfinite(target) & (target == np.rint(target))).all())
