"""Draw the sheet of thumbnails for TensorBoard's projector, which cuts it apart again."""

import math
from collections.abc import Sequence

import numpy as np

from .canvas.images import Channels, fit, to_rgb
from .canvas.palette import pick_class_colours
from .canvas.theme import INK, PAPER, THUMBNAIL_SIZE

_FRAME = 5  # pixels, of at most 64
_LEAST_FRAMED = 32  # side of a thumbnail: a smaller one would be all frame
_LARGEST_SHEET = 8192  # what a browser takes as one texture; the projector shows nothing above it


def draw_sheet(
    images: Sequence[np.ndarray],
    mean: Channels = 0.0,
    std: Channels = 1.0,
    *,
    classes: Sequence[int] | None = None,
    wrong: Sequence[bool] | None = None,
) -> tuple[np.ndarray, int]:
    """Draw a square sheet of thumbnails, row by row.

    The projector shows thumbnails in no colours of its own unless it is asked for them, so each has a frame in the
    colour of its class, and a dark one within it where the prediction is wrong.

    Args:
        images: at least one, at most 8192 times 8192; see ``to_rgb``. Their sizes may differ.
        mean: of their normalization.
        std: of their normalization.
        classes: of the images; None: not known, and there are no frames.
        wrong: whether the class that was predicted is another one; None: not known.

    Returns:
        [S, S, 3], uint8, RGB, with S at most 8192, and the side of a thumbnail, at most 64.
    """
    # A square number of places, of which the last may stay empty: the projector finds a thumbnail by its size alone.
    columns = math.ceil(math.sqrt(len(images)))
    side = min(THUMBNAIL_SIZE, _LARGEST_SHEET // columns)
    sheet = np.full((columns * side, columns * side, 3), PAPER[0], dtype=np.uint8)
    colours = None if classes is None else pick_class_colours(np.asarray(classes))
    for index, image in enumerate(images):
        top, left = index // columns * side, index % columns * side
        place = sheet[top : top + side, left : left + side]
        if colours is not None and side >= _LEAST_FRAMED:
            place[:] = colours[index]
            place = _within(place)
            if wrong is not None and wrong[index]:
                place[:] = INK
                place = _within(place)
        place[:] = fit(to_rgb(image, mean, std), len(place), PAPER)
    return sheet, side


def _within(place: np.ndarray) -> np.ndarray:
    """Return what a frame leaves free."""
    return place[_FRAME:-_FRAME, _FRAME:-_FRAME]
