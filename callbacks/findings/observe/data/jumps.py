"""Measure how much neighbouring pixels of an image differ, and how far it is one colour from its edges on."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...probe.flat_probe import FlatProbe
from ...probe.jumps_probe import PART, JumpsProbe

# The middle of a large image shows it as well, in a tenth of the time.
_SIDE = 96
# Within so much of an end, a value is black or white itself.
_END = 0.002
# Of an image's range: what a colour is off by, after it was decoded.
_OFF = 0.004
# Rows of a block of JPEG, of which the last one may have been read in part; fewer rows than that say little.
_BLOCK, _FEWEST = 16, 4
_COMPARED = 128  # pixels of a row


def jumps_of(image: NDArray[Any]) -> JumpsProbe | None:
    """Return how much the pixels of an image [C, H, W] differ from their neighbours; None where it has no range."""
    if image.ndim != 3 or min(image.shape[1:]) < 3:
        return None
    low, high = float(image.min()), float(image.max())
    if not np.isfinite(high - low) or high <= low:
        return None
    part = _middle(image, _SIDE).astype(np.float32)
    return replace(_of_shares((part - low) / (high - low)), wraps=_wraps(part), part=_middle(part, PART))


def _middle(image: NDArray[Any], side: int) -> NDArray[Any]:
    top, left = (max(0, (whole - side) // 2) for whole in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def _wraps(part: NDArray[np.float32]) -> bool:
    """Whether jumps across the whole range are frequent, and most so between values next to both ends.

    Noisy drawings of a few colours have fewer levels, a peak at white where noise is cut off, or values that become
    rarer towards the ends.
    """
    low, high = (of(part, axis=(1, 2), keepdims=True) for of in (np.min, np.max))
    if not (high > low).all():
        return False
    image = (part - low) / (high - low)
    pairs = [(image[:, 1:], image[:, :-1]), (image[:, :, 1:], image[:, :, :-1])]
    ones, others = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    change = np.abs(ones - others)
    inside = (np.maximum(ones, others) < 1 - _END) | (np.minimum(ones, others) > _END)
    large, far = float(((change >= 0.95) & inside).mean()), float(((change >= 0.85) & (change < 0.95)).mean())
    middle = float(((change >= 0.4) & (change < 0.7)).mean())
    white, nearly = float((image >= 1 - _END).mean()), float(((image >= 0.96) & (image < 1 - _END)).mean())
    levels = len(np.unique(np.round(image * 255))) / 256
    grey = float(((image > 0.1) & (image < 0.9)).mean())
    return large > max(middle, 0.001, 0.5 * far) and white <= 0.5 * nearly and levels >= 0.6 and grey >= 0.2


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


def flat_of(planes: NDArray[Any], span: float) -> FlatProbe | None:
    """Return how far an image [C, H, W], whose values span so much, is flat; None where it is so at no edge."""
    height, width = planes.shape[1:]
    if min(height, width) < 2 or not np.isfinite(span) or span <= 0:
        return None
    off = _OFF * span
    rows, columns = planes, planes.transpose(0, 2, 1)
    bottom, top = _flat_lines(rows[:, ::-1], off), _flat_lines(rows, off)
    left, right = _flat_lines(columns, off), _flat_lines(columns[:, ::-1], off)
    if not bottom + top + left + right:
        return None
    colour = planes[:, -1, -1].astype(np.float64)
    rest = planes[:, : min(height - bottom, max(_FEWEST, height - bottom - _BLOCK))]
    step = max(1, width // _COMPARED)
    elsewhere = float(_is_near(rest[:, ::step, ::step], colour, off).mean()) if bottom and rest.size else 0.0
    return FlatProbe(bottom / height, top / height, left / width, right / width, tuple(map(float, colour)), elsewhere)


def _flat_lines(planes: NDArray[Any], off: float) -> int:
    """Return how many of the first lines of an image are one colour."""
    colour = planes[:, 0, 0].astype(np.float64)
    if not _is_near(planes[:, :1], colour, off).all():  # as it is of nearly all images
        return 0
    count = 0
    for first in range(0, planes.shape[1], _BLOCK):
        flat = _is_near(planes[:, first : first + _BLOCK], colour, off).all(axis=1)
        if not flat.all():
            return count + int(np.argmin(flat))
        count += flat.size
    return count


def _is_near(planes: NDArray[Any], colour: NDArray[np.float64], off: float) -> NDArray[np.bool_]:
    near = np.abs(planes.astype(np.float64) - colour[:, None, None]) <= off
    return np.asarray(near.all(axis=0))
