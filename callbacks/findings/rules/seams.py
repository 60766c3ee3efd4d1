"""Whether values of images go on from their largest to their smallest one, as those do that wrapped around."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEVELS = 256
# Levels within which neighbours belong to one surface.
_NEAR = 24
# Of a photograph that wrapped around, as many neighbours lie on both sides of the seam as of any level beside it: 0.5
# to 1.9 times as many, in eleven kinds of such images; 0 to 0.1 times in healthy ones, and 0.3 in drawings of colours
# near both ends, which have a fifth of the levels.
_LEAST, _MOST = 0.35, 5.0
_FEWEST_LEVELS = 0.4
# Against neighbours that differ by a quarter of the range or more, around the seam: 0.14 to 0.7 times as many, and in
# drawings of any colours, whose borders cross the seam as they cross any level, 0.035 and less.
_OF_FAR = 0.08
# Of all pairs of neighbours, and of images that have such pairs.
_PAIRS, _IMAGES = 0.001, 0.1
# Noise alone has a fifth of its neighbours near each other.
_SMOOTH = 0.5


@dataclass(frozen=True)
class Seam:
    """What goes over a seam.

    Attributes:
        channels: that do, of ``of``.
        of: channels that there are.
        pairs: share of neighbouring values on two sides of the seam.
    """

    channels: int
    of: int
    pairs: float


def seam_of(parts: Sequence[NDArray[np.float32]]) -> Seam | None:
    """Return what goes over the seam from the largest to the smallest value of images [C, H, W]; None where nothing."""
    usual = Counter(len(part) for part in parts).most_common(1)[0][0]
    parts = [part for part in parts if len(part) == usual]
    shares = [_of_channel([part[channel] for part in parts]) for channel in range(usual)]
    over = [share for share in shares if share]
    return Seam(len(over), usual, float(np.mean(over))) if over else None


def _of_channel(planes: Sequence[NDArray[np.float32]]) -> float:
    """Return the share of neighbours on two sides of the seam; 0 where they are no more than in healthy images."""
    low, high = min(float(it.min()) for it in planes), max(float(it.max()) for it in planes)
    if not high > low:
        return 0.0
    levels = [np.rint((it - low) * ((_LEVELS - 1) / (high - low))).astype(np.int64) for it in planes]
    pairs = [_pairs(it) for it in levels]
    with_seam = np.mean([_over(*it).mean() >= _PAIRS for it in pairs])
    lower, upper = (np.concatenate([it[side] for it in pairs]) for side in (0, 1))
    over, change = float(_over(lower, upper).mean()), upper - lower
    around = np.minimum(change, _LEVELS - change)
    known = len(np.unique(np.concatenate([it.ravel() for it in levels]))) / _LEVELS
    beside = _beside_ends(lower, upper)
    seamless = (
        over < _LEAST * beside or over > _MOST * beside or over < _OF_FAR * float((around >= _LEVELS // 4).mean())
    )
    smooth = float((around <= _NEAR).mean()) >= _SMOOTH and known >= _FEWEST_LEVELS
    return over if over >= _PAIRS and with_seam >= _IMAGES and smooth and not seamless else 0.0


def _pairs(plane: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    ones = np.concatenate([plane[1:].ravel(), plane[:, 1:].ravel()])
    others = np.concatenate([plane[:-1].ravel(), plane[:, :-1].ravel()])
    return np.minimum(ones, others), np.maximum(ones, others)


def _over(lower: NDArray[np.int64], upper: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs are near each other over the seam; values at the very ends were cut off there, perhaps."""
    over: NDArray[np.bool_] = (lower > 0) & (upper < _LEVELS - 1) & (_LEVELS - upper + lower <= _NEAR)
    return over


def _beside_ends(lower: NDArray[np.int64], upper: NDArray[np.int64]) -> float:
    """Return the share of pairs that are near each other on two sides of a level, as is usual next to the ends."""
    near = (upper - lower <= _NEAR) & (upper > lower)
    begins, ends = (np.bincount(it[near] + 1, minlength=_LEVELS + 1) for it in (lower, upper))
    across = np.cumsum(begins - ends)
    return float(np.median([*across[2 : _NEAR + 1], *across[_LEVELS - _NEAR : _LEVELS - 1]])) / len(lower)
