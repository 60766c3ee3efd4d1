"""Thin rims in masks: what lies between two classes, and which classes are nothing but lines."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .masks import Masks

Mask = NDArray[np.generic]

_WIDTH = 2  # pixels of a rim that interpolation makes
_SMALL_SIDE = 100  # pixels, up to which a line is at most two pixels wide, else four


def class_maps(masks: Masks) -> list[Mask]:
    """Return the masks of classes that were kept, [H, W] each."""
    return [it.mask for it in masks.samples if it.mask is not None and it.mask.ndim == 2]


class Crossings:
    """How rows and columns of masks go from one class to another: at once, or through a rim of a third one.

    Args:
        maps: masks of classes.
    """

    def __init__(self, maps: Sequence[Mask]):
        self.direct: Counter[tuple[float, float]] = Counter()
        self.bridged: Counter[tuple[float, float, float]] = Counter()
        for mask in maps:
            for lines in (mask, mask.T):
                self._count(lines)

    def share(self, low: float, between: float, high: float) -> tuple[float, int]:
        """Return which share of the crossings of two classes goes through a rim of a third one, and how many do."""
        bridged = self.bridged[low, between, high]
        return bridged / max(bridged + self.direct[low, high], 1), bridged

    def covered(self, value: float) -> float:
        """Return which share of the crossings of other classes goes through a rim of a class."""
        bridged = sum(times for (_, middle, _), times in self.bridged.items() if middle == value)
        direct = sum(times for pair, times in self.direct.items() if value not in pair)
        return bridged / max(bridged + direct, 1)

    def _count(self, lines: Mask) -> None:
        self._add(self.direct, lines[:, :-1], lines[:, 1:])
        for width in range(1, _WIDTH + 1):
            first, last, rim = lines[:, : -width - 1], lines[:, width + 1 :], lines[:, 1:-width]
            alike = np.ones(first.shape, dtype=bool)
            for step in range(1, width):
                alike &= lines[:, 1 + step : lines.shape[1] - width + step] == rim
            crossing = alike & (rim != first) & (rim != last) & (first != last)
            triples = np.stack([first[crossing], rim[crossing], last[crossing]]).astype(np.float64)
            for (one, middle, other), times in zip(*_counted(triples), strict=True):
                self.bridged[min(one, other), middle, max(one, other)] += int(times)

    @staticmethod
    def _add(counts: Counter[tuple[float, float]], one: Mask, other: Mask) -> None:
        differ = one != other
        pairs = np.stack([one[differ], other[differ]]).astype(np.float64)
        for (first, second), times in zip(*_counted(pairs), strict=True):
            counts[min(first, second), max(first, second)] += int(times)


def _counted(rows: NDArray[np.float64]) -> tuple[list[list[float]], list[int]]:
    if not rows.shape[1]:
        return [], []
    values, times = np.unique(rows, axis=1, return_counts=True)
    return values.T.tolist(), times.tolist()


def solid(maps: Sequence[Mask], value: float) -> float:
    """Return which share of a class's pixels is surrounded by the class, as no pixel of a line is."""
    inner = sum(int(_inner(mask == value).sum()) for mask in maps)
    return inner / max(sum(int((mask == value).sum()) for mask in maps), 1)


def between_others(maps: Sequence[Mask], value: float) -> float:
    """Return which share of a class's pixels has two other classes next to it, as those of a border have."""
    near, pixels = 0, 0
    for mask in maps:
        here = mask == value
        others = [_near(mask == other) for other in np.unique(mask) if other != value]
        near += int((here & (np.sum(others, axis=0) >= 2)).sum()) if len(others) >= 2 else 0
        pixels += int(here.sum())
    return near / max(pixels, 1)


def _reach(shape: tuple[int, ...]) -> int:
    return 1 if max(shape) <= _SMALL_SIDE else 2


def _inner(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~_grown(~marks, _reach(marks.shape))


def _near(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return _grown(marks, 1 + _reach(marks.shape))


def _grown(marks: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """Return what lies at most so many rows and columns from a mark."""
    padded = np.pad(marks, by)
    rows = np.logical_or.reduce([padded[step : step + len(marks)] for step in range(2 * by + 1)])
    grown: NDArray[np.bool_] = np.logical_or.reduce(
        [rows[:, step : step + marks.shape[1]] for step in range(2 * by + 1)]
    )
    return grown
