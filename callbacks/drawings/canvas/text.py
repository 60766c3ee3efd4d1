"""Text on Pillow canvases, rendered once and remembered."""

import math
from functools import lru_cache

from PIL import Image

from .fonts import line_length, render_line
from .theme import Colour


def write_text(
    canvas: Image.Image, place: tuple[float, float], text: str, *, fill: Colour | int, size: int, anchor: str
) -> None:
    """Write one line; the pixels are those of Pillow's ``ImageDraw.text``.

    Args:
        canvas: RGB or grey.
        place: of the anchor, in pixels, which may be fractions.
        text: without line breaks.
        fill: colour of the letters, or their grey.
        size: of the font in pixels.
        anchor: two letters as Pillow has them, for example ``la`` (left, top of the letters).
    """
    # Whole pixels place the mask, fractions are rendered into it: equal fractions share one rendering.
    whole = int(place[0]), int(place[1])
    mask, offset = _render(text, size, anchor, (math.modf(place[0])[0], math.modf(place[1])[0]))
    if mask is not None:
        canvas.paste(fill, (whole[0] + offset[0], whole[1] + offset[1]), mask)


@lru_cache(maxsize=8192)
def text_length(text: str, size: int) -> float:
    """Return the width of a line in pixels."""
    return line_length(text, size)


# Most text stands in the picture of every epoch, and rendering it costs more than all else of a chart.
@lru_cache(maxsize=4096)
def _render(
    text: str, size: int, anchor: str, start: tuple[float, float]
) -> tuple[Image.Image | None, tuple[int, int]]:
    return render_line(text, size, anchor, start)
