"""Which values the pixels of one image have."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LevelsProbe:
    """Distinct values in the middle of an image.

    Attributes:
        steps: per channel, the distance of neighbouring levels, where all values lie on a grid of at most 256 levels,
            as those of a file of 8 bits do whatever was taken from them and by what they were divided; else 0.
        count: distinct values of all channels.
        whole: whether all values are whole numbers.
        thirds: how much pixels differ from the third in their row, in parts of what they differ from the first and the
            second, of which the smaller counts; or the same by columns where it is less; 1 where they do not differ.
    """

    steps: tuple[float, ...]
    count: int
    whole: bool
    thirds: float = 1.0
