"""``Chart``: a canvas with a title, axes, histograms, curves, legends and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .grid import shorten
from .text import text_length, write_text
from .theme import (
    AXES,
    GAP,
    INK,
    LEGEND_GAP,
    PAPER,
    SHADE,
    SWATCH,
    SWATCH_INDENT,
    TEXT_SIZE,
    TITLE_LINE,
    TITLE_SIZE,
    Colour,
)

_FINER = 4  # binary digits after the point, to which OpenCV places lines: 1/16 of a pixel


#      left                        right
#       |                            |
#  top  +----------------------------+  y = 1
#       |                            |
#       |          Panel             |
#       |                            |
#  bottom ---------------------------+  y = 0
#      x = 0                        x = 1
@dataclass(frozen=True)
class Panel:
    """The rectangle of a chart, in pixels; both axes run from 0 to 1, y upwards."""

    left: int
    top: int
    width: int
    height: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    def x(self, value: float) -> float:
        return self.left + value * self.width

    def y(self, value: float) -> float:
        # Rows of a picture are numbered downwards, values grow upwards.
        return self.bottom - value * self.height


class Chart:
    """The canvas, with the title written.

    Args:
        size: width and height in pixels.
        title: lines above; each loses its middle if it is too long.
    """

    def __init__(self, size: tuple[int, int], title: Sequence[str]):
        self.canvas = Image.new("RGB", size, PAPER)
        self.ink = ImageDraw.Draw(self.canvas)
        for index, line in enumerate(title):
            text = shorten(line, size[0] - 2 * GAP, TITLE_SIZE)
            self.text((GAP, GAP + index * TITLE_LINE), text, size=TITLE_SIZE)

    def text(
        self, place: tuple[float, float], text: str, *, anchor: str = "la", fill: Colour = INK, size: int = TEXT_SIZE
    ) -> None:
        write_text(self.canvas, place, text, fill=fill, size=size, anchor=anchor)

    def axes(self, panel: Panel, x: Mapping[float, str], y: Mapping[float, str], *, size: int = TEXT_SIZE) -> None:
        """Draw the frame and the lines of the grid; ``x`` and ``y`` are their labels by place from 0 to 1."""
        for value, text in x.items():
            self.ink.line((panel.x(value), panel.top, panel.x(value), panel.bottom), fill=AXES)
            self.text((panel.x(value), panel.bottom + 4), text, anchor="ma", size=size)
        for value, text in y.items():
            self.ink.line((panel.left, panel.y(value), panel.right, panel.y(value)), fill=AXES)
            self.text((panel.left - 5, panel.y(value)), text, anchor="rm", size=size)
        self.ink.rectangle((panel.left, panel.top, panel.right, panel.bottom), outline=AXES)

    def shade(self, panel: Panel, start: float, end: float) -> None:
        """Colour the area between two values of x. Called before ``axes``, whose lines it would cover."""
        self.ink.rectangle((panel.x(start), panel.top, panel.x(end), panel.bottom), fill=SHADE)

    def vertical_line(self, panel: Panel, value: float, colour: Colour, *, dashed: bool = False) -> None:
        """Draw a vertical line at a value of x."""
        # Rounded once, so that the pieces of a dashed line stand in one column.
        left = round(panel.x(value))
        for top in range(panel.top, panel.bottom, 6 if dashed else panel.height):
            self.ink.line((left, top, left, top + 3 if dashed else panel.bottom), fill=colour)

    def steps(self, panel: Panel, heights: np.ndarray, colour: Colour) -> None:
        """Draw a histogram: its bars half transparent, so that another shows through, and its outline.

        Args:
            panel: where.
            heights: [G], 0 to 1, of bars that share the width.
            colour: of both.
        """
        # Edges are rounded, not widths: no gap opens between bars, and the last one ends at the panel's border.
        edges = [round(panel.x(index / len(heights))) for index in range(len(heights) + 1)]
        tops = [round(panel.y(height)) for height in heights]
        outline = [(edges[0], panel.bottom)]
        for left, right, top in zip(edges[:-1], edges[1:], tops, strict=True):
            outline += [(left, top), (right, top)]
        outline.append((edges[-1], panel.bottom))
        # Pillow has no half transparent polygons on RGB: a mask of 80 of 255 lets a second histogram show through.
        mask = Image.new("L", (panel.width + 1, panel.height + 1), 0)
        ImageDraw.Draw(mask).polygon([(x - panel.left, y - panel.top) for x, y in outline], fill=80)
        self.canvas.paste(colour, (panel.left, panel.top), mask)
        self.ink.line(outline, fill=colour, width=1)

    def lines(
        self, panel: Panel, curves: Sequence[tuple[np.ndarray, np.ndarray]], colours: Sequence[Colour], width: int = 1
    ) -> None:
        """Draw curves, each of x and y, 0 to 1."""
        # By OpenCV, as Pillow draws lines without smoothing.
        pixels = np.array(self.canvas)
        for (x, y), colour in zip(curves, colours, strict=True):
            right, down = _to_subpixels(panel.left + x * panel.width), _to_subpixels(panel.bottom - y * panel.height)
            # A curve has a point per bin: only those that are apart in the picture are drawn.
            apart = _is_apart(right) | _is_apart(down)
            points = np.stack([right[apart], down[apart]], axis=1)
            cv2.polylines(pixels, [points], False, colour, width, cv2.LINE_AA, _FINER)
        # OpenCV draws on a copy of the pixels, so that Pillow needs a new canvas.
        self.canvas = Image.fromarray(pixels)
        self.ink = ImageDraw.Draw(self.canvas)

    def legend(self, place: tuple[float, float], entries: Sequence[tuple[str, Colour]]) -> None:
        """Write the meaning of colours in one row."""
        left, top = place
        for text, colour in entries:
            self.ink.rectangle((left, top, left + SWATCH, top + SWATCH), fill=colour)
            self.text((left + SWATCH_INDENT, top - 2), text)
            left += SWATCH_INDENT + text_length(text, TEXT_SIZE) + LEGEND_GAP


def _to_subpixels(pixels: np.ndarray) -> np.ndarray:
    fine: np.ndarray = np.rint(pixels * 2**_FINER).astype(np.int32)
    return fine


def _is_apart(places: np.ndarray) -> np.ndarray:
    """Return which places lie in another half pixel than those before; the first and the last always do."""
    changes = np.ones(len(places), dtype=bool)
    coarse = places >> (_FINER - 1)
    np.not_equal(coarse[1:-1], coarse[:-2], out=changes[1:-1])
    return changes
