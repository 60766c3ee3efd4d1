"""The picture of the samples of a loader whose labels are surest to be wrong."""

from collections.abc import Callable, Sequence

import numpy as np

from ...drawings.canvas.picture_style import PictureStyle
from ...drawings.sentence import draw_sentence
from ...drawings.suspects import Suspect, draw_suspects

SURE_TAG = "2_suspects/surest"
SHOWN = 12  # samples in the picture


def suspect_picture(
    place: str,
    epoch: int,
    suspects: Sequence[tuple[int, str, int, int, float]],
    pictures_of: Callable[[Sequence[int], Sequence[str]], Sequence[np.ndarray | None]],
    style: PictureStyle,
) -> np.ndarray:
    """Return the picture, [H, W, 3], uint8, RGB.

    Args:
        place: name of the loader.
        epoch: that has ended.
        suspects: number, id, class, likely class and score of each, the surest first.
        pictures_of: returns the pictures of some samples by their numbers and ids.
        style: names the classes.
    """
    if not suspects:
        return draw_sentence([f"no label of {place} seems wrong", f"epoch {epoch}"])
    shown = suspects[:SHOWN]
    pictures = pictures_of([one[0] for one in shown], [one[1] for one in shown])
    cards = [Suspect(*one[1:], picture) for one, picture in zip(shown, pictures, strict=True)]
    count, several = f"{len(suspects):,}", "s" * (len(suspects) > 1)
    return draw_suspects(
        cards,
        [f"{count} label{several} of {place} may be wrong", f"epoch {epoch}, the surest first: label \u2192 likely"],
        style,
    )
