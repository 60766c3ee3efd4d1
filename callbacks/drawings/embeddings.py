"""Draw the sheet of thumbnails for TensorBoard's projector, which cuts it apart again."""

import math
from collections.abc import Sequence

import numpy as np

from .canvas.images import Channels, fit, to_rgb
from .canvas.theme import PAPER, THUMBNAIL_SIZE

_LARGEST_SHEET = 8192  # what a browser takes as one texture; the projector shows nothing above it


def draw_sheet(images: Sequence[np.ndarray], mean: Channels = 0.0, std: Channels = 1.0) -> tuple[np.ndarray, int]:
    """Draw a square sheet of thumbnails, row by row.

    Args:
        images: at least one, at most 8192 times 8192; see ``to_rgb``. Their sizes may differ.
        mean: of their normalization.
        std: of their normalization.

    Returns:
        [S, S, 3], uint8, RGB, with S at most 8192, and the side of a thumbnail, at most 64.
    """
    # A square number of places, of which the last may stay empty: the projector finds a thumbnail by its size alone.
    columns = math.ceil(math.sqrt(len(images)))
    side = min(THUMBNAIL_SIZE, _LARGEST_SHEET // columns)
    sheet = np.full((columns * side, columns * side, 3), PAPER[0], dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * side, index % columns * side
        sheet[top : top + side, left : left + side] = fit(to_rgb(image, mean, std), side, PAPER)
    return sheet, side
