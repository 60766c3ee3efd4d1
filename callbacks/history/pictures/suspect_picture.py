"""The picture of the samples of a loader whose labels are surest to be wrong."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...drawings.canvas.picture_style import PictureStyle
from ...drawings.sentence import draw_sentence
from ...drawings.suspects import Suspect, draw_suspects

SURE_TAG = "2_suspects/surest"
SHOWN = 12  # samples in the picture
_WORDS = {"label": ("label", "labels"), "region": ("region", "regions"), "box": ("box", "boxes")}


class SuspectRow(NamedTuple):
    """What is probably wrong with a sample.

    Attributes:
        number: of the sample.
        name: its id.
        kind: one of ``history.suspects.SUSPECT_KINDS``.
        target: the class of the label; -1: there is none.
        likely: the class that is probably right; -1: none.
        score: how sure that is, 0 to 1.
        epochs: in how many epochs the sample counted.
        where: ``x1 y1 x2 y2`` in pixels of the picture as the model saw it, or empty.
    """

    number: int
    name: str
    kind: str
    target: int
    likely: int
    score: float
    epochs: int
    where: str


def suspect_picture(
    place: str,
    epoch: int,
    suspects: Sequence[SuspectRow] | None,
    pictures_of: Callable[[Sequence[int], Sequence[str]], Sequence[np.ndarray | None]],
    style: PictureStyle,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Return the picture, [H, W, 3], uint8, RGB.

    Args:
        place: name of the loader.
        epoch: that has ended.
        suspects: the surest first; None: nothing tells which there are, as with a detector that finds little.
        pictures_of: returns the pictures of some samples by their numbers and ids.
        style: names the classes.
        shape: height and width of what these are pictures of, in whose pixels boxes are; None: it is not known, and
            none are drawn.
    """
    if suspects is None:
        return draw_sentence([f"nothing tells yet which labels of {place} are wrong", f"epoch {epoch}"])
    if not suspects:
        return draw_sentence([f"no label of {place} seems wrong", f"epoch {epoch}"])
    shown = suspects[:SHOWN]
    pictures = pictures_of([one.number for one in shown], [one.name for one in shown])
    cards = [
        Suspect(one.name, one.target, one.likely, one.score, picture, one.kind, _box(one.where, picture, shape))
        for one, picture in zip(shown, pictures, strict=True)
    ]
    return draw_suspects(
        cards, [_heading(place, suspects), f"epoch {epoch}, the surest first: label \u2192 likely"], style
    )


def _heading(place: str, suspects: Sequence[SuspectRow]) -> str:
    kinds = {one.kind.split("_")[-1] for one in suspects} - {"duplicate"} or {"label"}
    one, several = _WORDS[kinds.pop()] if len(kinds) == 1 else ("label or box", "labels or boxes")
    return f"{len(suspects):,} {one if len(suspects) == 1 else several} of {place} may be wrong"


def _box(
    where: str, picture: np.ndarray | None, shape: tuple[int, int] | None
) -> tuple[float, float, float, float] | None:
    """Return a box in pixels of a picture; None where there is none, or nobody knows where it is."""
    if not where or picture is None or shape is None:
        return None
    left, top, right, bottom = map(float, where.split())
    down, across = picture.shape[0] / shape[0], picture.shape[1] / shape[1]
    return left * across, top * down, right * across, bottom * down
