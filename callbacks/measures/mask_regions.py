"""The region of each sample in which a model surely sees another class than the mask says."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SURE = 0.9  # of a region: another class is at least ten times as likely as that of the mask
WIDTH = 0.02  # half of a window's side, as a share of the image's diagonal, which is that of a boundary too
UNPACKED = ("region_target", "region_seen", "x1", "y1", "x2", "y2")

_LEAST = 0.5  # of a cell that belongs to a region
_SWEEPS = 6  # along rows and columns, in which what is connected is found
_STEPS = 4096  # of a cell's contradiction, which is added up in whole numbers: in any order
_BASE = 4096  # of a pair of classes in one number of a float32, which is exact up to its square
_CELLS = 64  # more than there are in a row or a column
_NOTHING = 0  # stands for no class in a pair, so that class c is c + 1


def window_reach(shape: Sequence[int]) -> int:
    """Return half the side of a window in pixels, at least 1, of an image of a height and width."""
    return max(1, math.ceil(WIDTH * math.hypot(*shape)))


def can_have_regions(logits: Tensor, task: str) -> bool:
    """Whether logits are maps that are large enough for a window, of classes that can be told in pairs."""
    sides = logits.shape[-2:]
    axes = (3, 4) if task == "binary" else (4,)
    is_map = logits.ndim in axes and (logits.ndim == 3 or task != "binary" or logits.shape[1] == 1)
    return is_map and min(sides) > 2 * window_reach(sides) and (logits.ndim == 3 or logits.shape[1] < _BASE - 1)


@torch.no_grad()
def contradictions(
    logits: Tensor,
    predicted: Tensor,
    target: Tensor,
    is_finite: Tensor,
    task: str,
    ignore_index: int | None = None,
) -> Tensor:
    """Return how surely the model contradicts the mask in windows of each sample, without reading the device.

    A pixel is contradicted by 1 - p(class of the mask) / p(predicted class), which is 0 where they are the same, and
    where the pixel does not count. A window is contradicted by the mean of its pixels. Its sides are ``2 * reach + 1``,
    so that what is wrong along a boundary, a few pixels wide, fills none. Windows are ``reach`` apart.

    Args:
        logits: floating point: ``multiclass`` [N, C, H, W], ``binary`` [N, H, W] or [N, 1, H, W], ``multilabel``
            [N, C, H, W]; see ``can_have_regions``.
        predicted: from ``predicted_classes``: int64, class numbers [N, H, W], or 0 and 1 in the shape of the logits.
        target: from ``decide_targets``: the same.
        is_finite: [N], bool, whether all logits of a sample are.
        task: ``multiclass``, ``binary`` or ``multilabel``.
        ignore_index: target value that does not count.

    Returns:
        [N, 2, h, w], float32: by how much windows are contradicted, 0 to 1, NaN in samples in which no pixel counts or
        not all logits are finite; and which class the mask has and which the model sees there, as one number.
    """
    if task == "multiclass":
        amount, pair, counts = _of_classes(logits, predicted, target, ignore_index)
    else:
        shape = (len(logits), -1, *logits.shape[-2:])
        amount, counts = _of_labels([part.reshape(shape) for part in (logits, predicted, target)], ignore_index)
        pair = None
    reach = window_reach(logits.shape[-2:])
    side = 2 * reach + 1
    mean = F.avg_pool2d(amount, side, reach)
    if pair is None:
        mean, code = _strongest_label(mean, is_one=task == "binary")
    else:
        # The class pair of the pixel that is contradicted most.
        _, place = F.max_pool2d(amount, side, reach, return_indices=True)
        code = pair.flatten(1).gather(1, place.flatten(1)).view_as(mean)
    is_known = counts.flatten(1).any(dim=1) & is_finite
    return torch.cat([mean.where(is_known[:, None, None, None], torch.nan), code.float()], dim=1)


def _of_classes(
    logits: Tensor, predicted: Tensor, target: Tensor, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return by how much pixels are contradicted, [N, 1, H, W], by which pair, [N, H, W], and which count."""
    classes = logits.shape[1]
    nearest = target.clamp(0, classes - 1)
    counts = nearest == target if ignore_index is None else (nearest == target) & (target != ignore_index)
    of_mask, of_model = logits.gather(1, torch.stack([nearest, predicted], dim=1)).float().unbind(dim=1)
    amount = -torch.expm1(of_mask - of_model)
    return amount.where(counts, 0)[:, None], (nearest + 1) * _BASE + predicted + 1, counts


def _of_labels(maps: Sequence[Tensor], ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Return by how much pixels are contradicted, [N, C, H, W], below 0 where the mask says no, and which count."""
    logits, predicted, target = maps
    counts = (target == 0) | (target == 1)
    counts = counts if ignore_index is None else counts & (target != ignore_index)
    # The logit is the logarithm of p / (1 - p).
    amount = -torch.expm1(-logits.float().abs())
    amount = torch.where(target == 1, amount, -amount)
    return amount.where(counts & (predicted != target), 0), counts


def _strongest_label(mean: Tensor, *, is_one: bool) -> tuple[Tensor, Tensor]:
    """Return by how much windows are contradicted in the label that is most, and which it is, [N, 1, h, w] each."""
    amount, label = mean.abs().max(dim=1, keepdim=True)
    is_there = mean.gather(1, label) > 0  # in the mask
    if is_one:
        # Class 1 in place of class 0, or the other way around.
        return amount, torch.where(is_there, 2 * _BASE + 1, _BASE + 2)
    code = label + 1
    return amount, torch.where(is_there, code * _BASE + _NOTHING, _NOTHING * _BASE + code)


@torch.no_grad()
def strongest_regions(windows: Tensor) -> Tensor:
    """Return of each sample the region that is contradicted most, without reading the device.

    A region are windows beside each other that are contradicted by 0.5 or more, by the same pair of classes. The one
    counts whose contradictions have the largest sum. (One that winds more than six times may be taken apart.)

    Args:
        windows: from ``contradictions``, [N, 2, h, w].

    Returns:
        [N, 3], float32: by how much its strongest window is contradicted, 0.5 to 1, and 0 where there is no region; the
        pair of classes and the corners of its bounding box, for ``unpack_regions``, which are NaN below ``SURE``. All
        are NaN where it is not known.
    """
    amount, code = windows[:, 0], windows[:, 1].long()
    is_known = amount.flatten(1)[:, 0].isfinite()
    is_in = amount >= _LEAST
    labels = _connected(code.masked_fill(~is_in, -1)).flatten(1)
    whole = (amount * _STEPS).where(is_in, 0).round().long().flatten(1)
    largest = torch.zeros_like(labels).scatter_add_(1, labels, whole).argmax(dim=1, keepdim=True)
    # Windows that are in no region have labels too.
    region = (labels == largest).view_as(is_in) & is_in
    strongest = amount.where(region, 0).flatten(1).amax(dim=1)
    pair = code.flatten(1).gather(1, largest)[:, 0]
    box = torch.zeros_like(pair)
    for corner in (-1, 1):
        for axis in (1, 2):
            place = torch.arange(region.shape[3 - axis], device=region.device) * corner
            box = box * _CELLS + place.where(region.any(dim=axis), -_CELLS).amax(dim=1) * corner
    is_told = strongest >= SURE
    found = torch.stack([strongest, *(of.float().where(is_told, torch.nan) for of in (pair, box))], dim=1)
    return found.where(is_known[:, None], torch.nan)


def _connected(code: Tensor) -> Tensor:
    """Return a number for each place of [N, h, w], the same for those that are connected in rows and columns."""
    count, height, width = code.shape
    labels = torch.arange(height * width, device=code.device).expand(count, -1).reshape(code.shape)
    runs = [_runs(code), _runs(code.transpose(1, 2))]
    for sweep in range(2 * _SWEEPS):
        # Each run takes the largest number in it, along rows and then along columns.
        run, flat = runs[sweep % 2], labels.flatten(1)
        largest = torch.zeros_like(flat).scatter_reduce_(1, run, flat, "amax", include_self=False).gather(1, run)
        labels = largest.view_as(labels).transpose(1, 2)
    return labels


def _runs(code: Tensor) -> Tensor:
    """Return the number of the run of equal values along the last axis that each place of [N, h, w] is in, [N, h w]."""
    begins = torch.ones_like(code, dtype=torch.bool)
    begins[:, :, 1:] = code[:, :, 1:] != code[:, :, :-1]
    return begins.flatten(1).cumsum(dim=1) - 1


def unpack_regions(pair: np.ndarray, box: np.ndarray, reach: np.ndarray) -> dict[str, np.ndarray]:
    """Return classes and bounding boxes of regions by the names in ``UNPACKED``, float64; NaN where there are none.

    Args:
        pair: [n], from ``strongest_regions``.
        box: [n], from ``strongest_regions``.
        reach: [n], from ``window_reach``.

    Returns:
        [n] each: class of the mask and class that the model sees, NaN for none of a ``multilabel`` map; left, top,
        right and bottom in pixels, of which right and bottom are outside.
    """
    classes = np.stack(np.divmod(pair.astype(np.float64), _BASE))
    classes = np.where(classes == _NOTHING, np.nan, classes - 1)
    left, top, right, bottom = (np.floor_divide(box, float(_CELLS) ** place) % _CELLS for place in (3, 2, 1, 0))
    # A window at the edge of a region is half inside: half a step around the middles of the first and the last one.
    before, after = reach - (reach + 1) // 2, reach + (reach + 1) // 2 + 1
    sides = [*(of * reach + before for of in (left, top)), *(of * reach + after for of in (right, bottom))]
    return dict(zip(UNPACKED, [*classes, *sides], strict=True))
