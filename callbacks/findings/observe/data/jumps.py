"""Measure how much neighbouring pixels of an image differ."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...probe.jumps_probe import JumpsProbe

# The middle of a large image shows it as well, in a tenth of the time.
_SIDE = 96
# Within so much of an end, a value is black or white itself.
_END = 0.002


def jumps_of(image: NDArray[Any]) -> JumpsProbe | None:
    """Return how much the pixels of an image [C, H, W] differ from their neighbours; None where it has no range."""
    if image.ndim != 3 or min(image.shape[1:]) < 3:
        return None
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(high - low) or high <= low:
        return None
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[1:])
    part = image[:, top : top + _SIDE, left : left + _SIDE].astype(np.float32)
    return _of_shares((part - low) / (high - low))


def _of_shares(image: NDArray[np.float32]) -> JumpsProbe:
    pairs = [(image[:, 1:], image[:, :-1]), (image[:, :, 1:], image[:, :, :-1])]
    ones, others = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    change = np.abs(ones - others)
    inside = (np.maximum(ones, others) < 1 - _END) | (np.minimum(ones, others) > _END)
    middle = image[:, 1:-1, 1:-1]
    around = (image[:, :-2, 1:-1], image[:, 2:, 1:-1], image[:, 1:-1, :-2], image[:, 1:-1, 2:])
    brighter = np.sum([it - middle >= 0.75 for it in around], axis=0)
    darker = np.sum([middle - it >= 0.75 for it in around], axis=0)
    return JumpsProbe(
        middle=float(((change >= 0.4) & (change < 0.7)).mean()),
        large=float(((change >= 0.85) & inside).mean()),
        dark=float((brighter >= 3).mean()),
        bright=float((darker >= 3).mean()),
        grey=float(((image > 0.1) & (image < 0.9)).mean()),
    )
