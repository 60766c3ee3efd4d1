"""Measure how much neighbouring pixels of an image differ."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..probe.jumps_probe import JumpsProbe

# A part of a large image shows it as well.
_SIDE = 256
# Within so much of an end, a value is black or white itself.
_END = 0.002


def jumps_of(image: NDArray[Any]) -> JumpsProbe | None:
    """Return how much the pixels of an image [C, H, W] differ from their neighbours; None where it has no range."""
    if image.ndim != 3 or min(image.shape[1:]) < 3:
        return None
    part = image[:, :_SIDE, :_SIDE].astype(np.float32)
    low, high = float(part.min()), float(part.max())
    if not np.isfinite(high - low) or high <= low:
        return None
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
