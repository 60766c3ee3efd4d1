"""Which samples of a loader seem to be those of another one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OverlapProbe:
    """What two loaders seem to share, by ids or by places in one data set; images have to prove it.

    Attributes:
        count: samples of the loader that the other one seems to have too.
        of: samples of the loader.
        pairs: indices of some of them, in the loader and in the other one.
    """

    count: int
    of: int
    pairs: tuple[tuple[int, int], ...]
