"""How much the values of neighbouring pixels differ in one image."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

PART = 64


@dataclass(frozen=True)
class JumpsProbe:
    """Shares of an image's values, each against its neighbours in the same channel, in parts of the image's range.

    Attributes:
        middle: of pairs of neighbours, those that differ by 0.4 to 0.7.
        large: of pairs, those that differ by 0.85 or more and are not black and white themselves.
        dark: of values, those with three of four neighbours that are brighter by 0.75 or more.
        bright: of values, those with three of four neighbours that are darker by 0.75 or more.
        grey: of values, those between 0.1 and 0.9.
        part: the middle of the image, [C, H, W], at most PART x PART.
        wraps: whether jumps, ends and levels are as they are in a photograph whose values wrapped around.
    """

    middle: float
    large: float
    dark: float
    bright: float
    grey: float
    wraps: bool = False
    part: NDArray[np.float32] | None = field(default=None, compare=False)
