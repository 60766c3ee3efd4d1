"""Find the levels of an image's values: the grid of a file of 8 bits, whole numbers, and colours in a row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...probe.levels_probe import LevelsProbe

# The middle of a large image shows it as well, in a tenth of the time.
_SIDE = 96
_MOST_CHANNELS = 4
# Levels of a grid; of fewer, any values may happen to lie on one.
_FEWEST, _MOST = 12, 300
_BITS = 256
# Of a step: what rounding in single precision makes of it is far below.
_NEAR = 0.08
# Of the levels, those that have to lie on it; the rest are of what was put into the image, such as a border of zeros.
_SHARE = 0.95


def levels_of(image: NDArray[Any]) -> LevelsProbe | None:
    """Return the levels of an image [C, H, W]; None where it has other dimensions or values that are not finite."""
    if image.ndim != 3 or min(image.shape[1:]) < 4:
        return None
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[1:])
    part = image[:_MOST_CHANNELS, top : top + _SIDE, left : left + _SIDE].astype(np.float64)
    if not np.isfinite(part).all():
        return None
    distinct = [np.unique(plane) for plane in part]
    every = np.unique(np.concatenate(distinct))
    steps = tuple(_step(values) for values in distinct)
    return LevelsProbe(steps, len(every), bool((every == np.rint(every)).all()), _thirds(part))


def _step(values: NDArray[np.float64]) -> float:
    """Return the step of the grid on which sorted values lie; 0 where there is none."""
    if not _FEWEST <= len(values) <= _MOST:
        return 0.0
    gaps = np.diff(values)
    found = [_fitted(values, float(step)) for step in (np.median(gaps), gaps.min())]
    return next((step for step in found if step), 0.0)


def _fitted(values: NDArray[np.float64], step: float) -> float:
    start = values[len(values) // 2]
    for _ in range(2):
        places = np.rint((values - start) / step)
        near = np.abs(values - start - places * step) < _NEAR * step
        if near.mean() < _SHARE or np.ptp(places) >= 2 * _BITS or not places[near].any():
            return 0.0
        step = float((places * (values - start))[near].sum() / (places[near] ** 2).sum())
    return step


def _thirds(part: NDArray[np.float64]) -> float:
    return min(_third(part), _third(part.swapaxes(1, 2)))


def _third(part: NDArray[np.float64]) -> float:
    """Return by how much less pixels in a row differ from the third than from the first and the second."""
    if part.shape[2] < 8:
        return 1.0
    one, two, three = (float(np.abs(part[:, :, by:] - part[:, :, :-by]).mean()) for by in (1, 2, 3))
    return three / min(one, two) if min(one, two) > 0 else 1.0
