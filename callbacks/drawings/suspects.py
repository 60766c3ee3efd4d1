"""Draw samples whose label is probably wrong, each on a card with its label and the likely one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas.fonts import shown_names
from .canvas.grid import Card, draw_grid
from .canvas.picture_style import PictureStyle
from .canvas.theme import ABSENT, WRONG

_BLANK = np.full((8, 8, 3), ABSENT, dtype=np.uint8)  # where there is no picture of a sample


@dataclass(frozen=True)
class Suspect:
    """A sample whose label is probably wrong.

    Attributes:
        name: its id.
        label: its class.
        likely: the class that it probably is.
        score: how sure that is, -1 to 1.
        picture: [H, W, 3], uint8, RGB; None: there is none.
    """

    name: str
    label: int
    likely: int
    score: float
    picture: np.ndarray | None


def draw_suspects(suspects: Sequence[Suspect], title: Sequence[str], style: PictureStyle) -> np.ndarray:
    """Draw suspects in their order, three in a row.

    Args:
        suspects: at least one.
        title: lines above.
        style: names the classes.

    Returns:
        [H, 700, 3], uint8, RGB.

    Example:
        >>> found = [Suspect("a.png", 0, 1, 0.93, None), Suspect("b.png", 1, 0, 0.5, None)]
        >>> draw_suspects(found, ["2 labels may be wrong"], PictureStyle(class_names=["cat", "dog"])).shape
        (496, 700, 3)
    """
    names = None if style.class_names is None else shown_names(style.class_names)
    shown = PictureStyle(class_names=names)
    return draw_grid([_card(one, shown) for one in suspects], title)


def _card(suspect: Suspect, style: PictureStyle) -> Card:
    # A line each, as names are long.
    lines = [f"label {style.name_of(suspect.label)}", f"\u2192 {style.name_of(suspect.likely)}  {suspect.score:.2f}"]
    picture = _BLANK if suspect.picture is None else suspect.picture
    return Card(picture, lines, WRONG, (1,), name=suspect.name)
