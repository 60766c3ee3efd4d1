"""Draw lines of text in place of a picture for which there is nothing to show."""

from collections.abc import Sequence

import numpy as np

from .canvas.chart import Chart
from .canvas.theme import GAP


def draw_sentence(lines: Sequence[str]) -> np.ndarray:
    """Return a picture of text alone, [H, W, 3], uint8, RGB; a line that is too long goes on in a second one.

    Example:
        >>> draw_sentence(["no best samples"]).shape
        (70, 700, 3)
    """
    return np.array(Chart(GAP, lines).canvas)
