"""Subsampling of large maps, so that drawing stays cheap and compares the same pixels of truth and prediction."""

import math
from collections.abc import Sequence

import numpy as np

from ...measures.tile_shape import Shape

_MOST_LOGITS = 2**20  # compared per sample, whatever the number of classes
_LONGEST_SIDE = 300  # about twice the side of a tile


def subsample_step(shape: Sequence[int]) -> int:
    """Return n, where every n-th pixel of a map [C, H, W] is read in both directions."""
    # The root, as a step of n leaves one of n * n pixels.
    by_cost = math.ceil(math.sqrt(math.prod(shape) / _MOST_LOGITS))
    return max(1, by_cost, math.ceil(max(shape[-2:]) / _LONGEST_SIDE))


def subsample_alike(output: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every n-th pixel of logits [C, H, W] and of a target [..., H', W'], to be compared.

    Of large maps every n-th pixel is read, so that no side is longer than 300 and no more than a million logits are
    compared; the target is read at the same pixels, as those beside them would count as errors. A small target stays
    as it is, and the prediction is to be brought to its size.
    """
    # The step of the output holds for both; that of the target only shows whether the target is large.
    step = subsample_step(output.shape)
    if max(step, subsample_step(target.shape)) > 1:
        target = _pick_pixels(target, output.shape[1:], step)
    return output[:, ::step, ::step], target


def resize_nearest(mask: np.ndarray, shape: Shape) -> np.ndarray:
    """Bring the last two axes of a mask to another height and width by repeating or leaving out pixels."""
    height, width = mask.shape[-2:]
    if (height, width) == shape:
        return mask
    # In integers, so that no rounding of floats decides which pixel is taken.
    rows, columns = np.arange(shape[0]) * height // shape[0], np.arange(shape[1]) * width // shape[1]
    resized: np.ndarray = mask[..., rows, :][..., columns]
    return resized


def _pick_pixels(target: np.ndarray, shape: Sequence[int], step: int) -> np.ndarray:
    """Return a target [..., H', W'] where every n-th pixel of an output of height and width ``shape`` lies."""
    if target.shape[-2:] == tuple(shape):
        return target[..., ::step, ::step]
    # Of different sizes the centres of pixels correspond, not their corners.
    rows, columns = (
        ((np.arange(0, side, step) + 0.5) * true_side / side).astype(np.intp)
        for side, true_side in zip(shape, target.shape[-2:], strict=True)
    )
    read: np.ndarray = target[..., rows, :][..., columns]
    return read
