"""Comparisons of two sets of numbers."""

import math

import numpy as np
from numpy.typing import NDArray


def distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the largest difference of the two distributions' shares (Kolmogorov and Smirnov), 0 to 1."""
    both = np.sort(np.concatenate([one, other]))
    below = np.searchsorted(np.sort(one), both, side="right") / len(one)
    below_other = np.searchsorted(np.sort(other), both, side="right") / len(other)
    return float(np.max(np.abs(below - below_other)))


def chance(one: int, other: int) -> float:
    """Return the distance that samples of these sizes of one distribution exceed once in 1,000 times."""
    return 1.95 * math.sqrt((one + other) / (one * other))
