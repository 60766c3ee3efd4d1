"""Draw samples with a label, a region or a box that is probably wrong, on cards with what is there and is likely."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..measures.tile_shape import fitted_shape
from .canvas.fonts import shown_names
from .canvas.grid import Card, draw_grid
from .canvas.images import scale
from .canvas.picture_style import PictureStyle
from .canvas.theme import ABSENT, FRAME, MISSED, TILE_SIZE, WRONG

KINDS = {
    "label": ("label {}", "{}"),
    "missing_label": ("label missing", "{}"),
    "false_label": ("label {}", "none"),
    "region": ("region {}", "{}"),
    "missing_box": ("box missing", "{}"),
    "false_box": ("box {}", "none"),
    "swapped_box": ("box {}", "{}"),
    "duplicate": ("label {}", "twin {}"),
}
"""What is said of each kind: what is there, and what is likely; in the place of {} is the class."""
_BLANK = np.full((8, 8, 3), ABSENT, dtype=np.uint8)  # where there is no picture of a sample


@dataclass(frozen=True)
class Suspect:
    """A sample whose label is probably wrong.

    Attributes:
        name: its id.
        label: the class of the label; -1: there is none.
        likely: the class that is probably right; -1: none.
        score: how sure that is, -1 to 1.
        picture: [H, W, 3], uint8, RGB; None: there is none.
        kind: what is wrong, a key of ``KINDS``.
        box: x1, y1, x2, y2 in pixels of the picture, around what is meant; None: it is the whole picture.
    """

    name: str
    label: int
    likely: int
    score: float
    picture: np.ndarray | None
    kind: str = "label"
    box: tuple[float, float, float, float] | None = None


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
    there, likely = KINDS[suspect.kind]
    if suspect.kind == "duplicate" and min(suspect.label, suspect.likely) < 0:  # of several labels
        there, likely = KINDS["missing_label" if suspect.label < 0 else "false_label"]
    lines = [
        there.format(style.name_of(suspect.label)),
        f"\u2192 {likely.format(style.name_of(suspect.likely))}  {suspect.score:.2f}",
    ]
    picture = _BLANK if suspect.picture is None else suspect.picture
    if suspect.picture is not None and suspect.box is not None:
        picture = _boxed(suspect.picture, suspect.box)
    return Card(picture, lines, WRONG, (1,), name=suspect.name)


def _boxed(picture: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return a picture in the size of a tile with a box in it."""
    shape = fitted_shape(picture.shape[:2], TILE_SIZE)
    shown = np.ascontiguousarray(scale(picture, shape))
    zoom = np.array([shape[1] / picture.shape[1], shape[0] / picture.shape[0]] * 2)
    # Within the picture, so that a box along its border is seen.
    inside = np.clip(np.rint(np.array(box) * zoom), FRAME // 2, np.array([shape[1], shape[0]] * 2) - 1 - FRAME // 2)
    left, top, right, bottom = inside.astype(int).tolist()
    cv2.rectangle(shown, (left, top), (right, bottom), MISSED, FRAME)
    return shown
