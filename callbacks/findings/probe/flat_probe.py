"""How far an image is one colour from its edges on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FlatProbe:
    """Lines at the edges of an image that all have the colour of its last pixel there.

    Attributes:
        bottom: share of the height.
        top: share of the height.
        left: share of the width.
        right: share of the width.
        colour: of the bottom, per channel.
        elsewhere: share of the pixels above the bottom, and above 16 rows more, that have its colour too.
    """

    bottom: float
    top: float
    left: float
    right: float
    colour: tuple[float, ...]
    elsewhere: float
