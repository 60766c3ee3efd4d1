"""The task that outputs and targets belong to, found from their shapes and values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TASKS = ("binary", "multiclass", "multilabel", "detection", "regression")

_LOOKED_AT = 64  # pixels per side whose values are read, as a full mask takes long
_ROUNDING = 0.01  # of half precision
_OF_KIND = {"classes": ("multiclass",), "labels": ("binary", "multilabel"), "numbers": ("regression",)}


def find_task(
    outputs: Sequence[Any] | None,
    targets: Sequence[Any] | None,
    task: str | None = None,
    ignore_index: int | None = None,
    kind: str | None = None,
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

    Shapes do not distinguish labels from one-hot and soft targets of one class, nor these from numbers. There the
    criterion decides, by ``kind``; without it the values do: 0 and 1 are labels, also where each sample has one (name
    the task where they are one-hot); fractions that add up to 1 over the classes are multiclass; two values as label
    smoothing makes them, such as 0.05 and 0.95, are binary or multilabel; any other floats in the shape of the output
    are a regression.
    Whatever else is not whole (for binary and multilabel: not 0 or 1), apart from ``ignore_index``, has no task.

    Args:
        outputs: of N samples, N arrays or dicts.
        targets: of the same samples.
        task: where it is known; None is returned where the shapes do not fit it.
        ignore_index: target value that does not count.
        kind: of the target, where it is known, see ``target_kind``.

    Example:
        >>> find_task(outputs=np.zeros((2, 5)), targets=np.array([3, 1]))
        'multiclass'
        >>> find_task(outputs=np.zeros((2, 5, 8, 8)), targets=np.zeros((2, 8, 8), dtype=int))
        'multiclass'
    """
    if outputs is None or targets is None or not len(outputs) or len(outputs) != len(targets):
        return None
    if isinstance(outputs[0], Mapping) or isinstance(targets[0], Mapping):
        return "detection" if _are_detections(outputs, targets) and task in (None, "detection") else None
    # Each pair of shapes once: a batch has one, or a few where images differ in size.
    shapes = {(np.shape(output), np.shape(target)) for output, target in zip(outputs, targets, strict=True)}
    if task is not None:
        return task if all(_fits(task, *pair, soft=True) for pair in shapes) else None
    # The criterion knows more than values can show: a batch may hold only 0 and 1 by chance.
    for name in _OF_KIND.get(kind or "", ()):
        if all(_fits(name, *pair, soft=True) for pair in shapes):
            return name
    seen = [_subsample(np.asarray(target)) for target in targets]
    for name in ("binary", "multiclass", "multilabel"):
        if all(_fits(name, *pair) for pair in shapes):
            if all(_is_whole(target, name != "multiclass", ignore_index) for target in seen):
                return name
            return _soft_task(name, seen, ignore_index) if all(_fits("regression", *pair) for pair in shapes) else None
    return None


def _soft_task(name: str, targets: Sequence[np.ndarray], ignore_index: int | None) -> str | None:
    """Return the task of targets of other values than 0 and 1, in the shape of the output."""
    if any(target.dtype.kind != "f" for target in targets):
        return None
    if name == "multilabel" and all(_are_shares(target, ignore_index) for target in targets):
        return "multiclass"
    return name if _are_smoothed(targets, ignore_index) else "regression"


def _are_shares(target: np.ndarray, ignore_index: int | None) -> bool:
    """Whether values [C, ...] are shares of classes: none negative, and all together 1."""
    known = (np.abs(target.sum(axis=0) - 1) < _ROUNDING) & (target >= 0).all(axis=0)
    return bool((known | (target == ignore_index).all(axis=0)).all())


def _are_smoothed(targets: Sequence[np.ndarray], ignore_index: int | None) -> bool:
    """Whether all values are as far from 0 as from 1: what label smoothing makes of 0 and 1."""
    values = np.concatenate([target.reshape(-1) for target in targets]).astype(np.float64)
    # Smoothing by s makes s / 2 and 1 - s / 2: the same distance from the nearer end for all.
    distance = np.minimum(values, 1 - values)[values != ignore_index]
    return bool(len(distance) and 0 <= distance[0] < 0.5 - _ROUNDING and np.ptp(distance) < _ROUNDING)


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
        return len(output) == 3 and output[0] > 1 and (plane or (soft and len(target) == 3 and target[0] == output[0]))
    if task == "multilabel":
        return (len(output) == len(target) == 1 and output == target) or (
            len(output) == len(target) == 3 and output[0] == target[0]
        )
    # A regression may differ from its target by axes of length 1, as [1, H, W] and [H, W] do.
    sides = [[side for side in shape if side != 1] for shape in (output, target)]
    return task == "regression" and len(output) <= 3 and sides[0] == sides[1]


def _subsample(target: np.ndarray) -> np.ndarray:
    """Return the values of a target that decide."""
    if target.ndim < 2:
        return target
    rows, columns = (max(1, side // _LOOKED_AT) for side in target.shape[-2:])
    return target[..., ::rows, ::columns]


def _is_whole(target: np.ndarray, yes_or_no: bool, ignore_index: int | None) -> bool:
    if yes_or_no:
        return bool(((target == 0) | (target == 1) | (target == ignore_index)).all())
    return target.dtype.kind in "iub" or bool((np.isfinite(target) & (target == np.rint(target))).all())
