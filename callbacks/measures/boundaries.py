"""The boundaries of regions, found on the device without reading it."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH = 0.02  # of a boundary, as a share of the image's diagonal


def boundary_reach(shape: Sequence[int]) -> int:
    """Return the width of a boundary in pixels, at least 1, of an image of a height and width."""
    return max(1, round(WIDTH * math.hypot(*shape)))


def find_boundaries(labels: Tensor, classes: int, ignored: Tensor, reach: int) -> Tensor:
    """Return which pixels have one of another class, or the border of the image, at most ``reach`` away.

    Distances are counted in rows and columns, diagonally too: what is left of a region without its boundary is the
    region eroded ``reach`` times by 3 x 3 pixels. Pixels that are ignored have the class of whatever is beside them.

    Source: B. Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.

    Args:
        labels: integers, [N, H, W], or with any other number of axes for the pixels of an image.
        classes: number of classes; labels are from 0 on, or ignored.
        ignored: bool, broadcasts to the labels.
        reach: at least 1.

    Returns:
        bool, of the shape of the labels.

    Example:
        >>> labels = torch.zeros(1, 7, 7, dtype=torch.long)
        >>> labels[0, :, 4:] = 1
        >>> find_boundaries(labels, 2, torch.zeros(1, dtype=torch.bool), reach=1)[0, 3].tolist()
        [True, False, False, True, True, False, True]
    """
    # A window holds one class if both the largest and the smallest label in it are that of its middle. The smallest is
    # the largest of the labels counted downwards; 0 changes neither. In one byte, as maxima take as long as the memory
    # that they read.
    labels = labels.clamp(0, classes - 1).to(torch.uint8 if classes < 255 else torch.int32)
    levels = torch.stack([labels + 1, classes - labels]).masked_fill_(ignored, 0)
    axes = labels.ndim - 1  # of the pixels
    largest = F.pad(levels, (reach, reach) * axes, value=classes + 1)
    for axis in range(2, 2 + axes):
        largest = _largest_within(largest, axis, 2 * reach + 1)
    return (largest != levels).any(dim=0)


def _largest_within(values: Tensor, axis: int, length: int) -> Tensor:
    """Return the maximum of every ``length`` neighbours along an axis, which becomes shorter by ``length`` - 1."""
    # Windows of 2, 4, 8, ... and then two that overlap: some log2(length) maxima per value.
    size = 1
    while size < length:
        step = min(size, length - size)
        count = values.shape[axis] - step
        values = torch.maximum(values.narrow(axis, 0, count), values.narrow(axis, step, count))
        size += step
    return values
