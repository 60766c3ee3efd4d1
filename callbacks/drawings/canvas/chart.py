"""``Chart``: a canvas with a title, axes, filled histograms, curves, legends and text, legible in a card."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .captions import shorten
from .text import text_length, write_text
from .theme import AXES, CHART_WIDTH, GAP, INK, PAPER, STROKE, TEXT_LINE, TEXT_SIZE, TITLE_LINE, TITLE_SIZE, Colour

SAMPLE_WIDTH = 56  # of the piece of a line, or the swatch, before an entry of a legend
DASHES = ((), (30, 14), (9, 11))  # lengths of pieces and gaps, by which lines differ beside their colours

_FINER = 4  # binary digits after the point, to which OpenCV places lines: 1/16 of a pixel
_AXIS = 2  # width of grid lines: half the pixels are left out in a card


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
    """The canvas, ``CHART_WIDTH`` wide, with the title written.

    Args:
        height: in pixels, of what is below the title.
        title: lines above; those that are too long go on in a second line.
        paper: colour of the background.

    Attributes:
        top: where the title ends.
    """

    def __init__(self, height: int, title: Sequence[str], *, paper: Colour = PAPER):
        lines = [part for line in title for part in wrap(line, CHART_WIDTH - 2 * GAP, TITLE_SIZE)]
        self.top = GAP + len(lines) * TITLE_LINE + GAP
        self.canvas = Image.new("RGB", (CHART_WIDTH, self.top + height), paper)
        self.ink = ImageDraw.Draw(self.canvas)
        for index, line in enumerate(lines):
            self.text((GAP, GAP + index * TITLE_LINE), line, size=TITLE_SIZE)

    def text(
        self, place: tuple[float, float], text: str, *, anchor: str = "la", fill: Colour = INK, size: int = TEXT_SIZE
    ) -> None:
        write_text(self.canvas, place, text, fill=fill, size=size, anchor=anchor)

    def axes(self, panel: Panel, x: Mapping[float, str], y: Mapping[float, str]) -> None:
        """Draw the frame and the lines of the grid; ``x`` and ``y`` are their labels by place from 0 to 1."""
        for value, text in x.items():
            self.ink.line((panel.x(value), panel.top, panel.x(value), panel.bottom), fill=AXES, width=_AXIS)
            self.text((panel.x(value), panel.bottom + 6), text, anchor="ma")
        for value, text in y.items():
            self.ink.line((panel.left, panel.y(value), panel.right, panel.y(value)), fill=AXES, width=_AXIS)
            self.text((panel.left - 8, panel.y(value)), text, anchor="rm")
        self.frame(panel)

    def frame(self, panel: Panel) -> None:
        """Draw the border of a panel, around what is inside."""
        box = (panel.left - _AXIS, panel.top - _AXIS, panel.right + _AXIS - 1, panel.bottom + _AXIS - 1)
        self.ink.rectangle(box, outline=AXES, width=_AXIS)

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill a rectangle, of which the right and the lower edge are the first pixels that stay as they are."""
        if round(right) > round(left) and round(bottom) > round(top):
            self.ink.rectangle((round(left), round(top), round(right) - 1, round(bottom) - 1), fill=colour)

    def paste(self, pixels: np.ndarray, left: float, top: float) -> None:
        """Put [h, w, 3], uint8, RGB, on the canvas."""
        self.canvas.paste(Image.fromarray(pixels), (round(left), round(top)))

    def bars(self, panel: Panel, heights: np.ndarray, colour: Colour, *, down: bool = False) -> None:
        """Draw a filled histogram from the lower edge of a panel upwards, or from its upper edge down.

        Args:
            panel: where.
            heights: [G], 0 to 1, of bars that share the width; what is above 0 is at least 3 pixels high in a card.
            colour: of all.
            down: whether the bars hang from the upper edge.
        """
        # Edges are rounded, not widths: no gap opens between bars, and the last one ends at the panel's border.
        edges = [round(panel.x(index / len(heights))) for index in range(len(heights) + 1)]
        for left, right, height in zip(edges[:-1], edges[1:], heights.tolist(), strict=True):
            length = max(round(height * panel.height), STROKE - 1) if height > 0 else 0
            top = panel.top if down else panel.bottom - length
            self.rectangle(left, top, right, top + length, colour)

    def lines(
        self,
        panel: Panel,
        curves: Sequence[tuple[np.ndarray, np.ndarray]],
        colours: Sequence[Colour],
        *,
        width: int = STROKE,
        dashes: Sequence[Sequence[int]] = (),
    ) -> None:
        """Draw curves, each of x and y, 0 to 1; what is outside of the panel is cut off.

        Args:
            panel: where.
            curves: x and y of each.
            colours: of each.
            width: of all.
            dashes: one of ``DASHES`` per curve; none: all are solid.
        """
        # By OpenCV, as Pillow draws lines without smoothing.
        pixels = np.array(self.canvas)
        # A line along the border of a panel is half outside of it.
        room = width // 2 + 1
        inside = pixels[panel.top - room : panel.bottom + room, max(panel.left - room, 0) : panel.right + room]
        corner = (max(panel.left - room, 0), panel.top - room)
        part = np.ascontiguousarray(inside)
        for index, ((x, y), colour) in enumerate(zip(curves, colours, strict=True)):
            if not len(x):
                continue
            places = np.stack([panel.left + x * panel.width, panel.bottom - y * panel.height], axis=1) - corner
            pieces = _dashed(_drop_close(places), dashes[index]) if dashes and dashes[index] else [_drop_close(places)]
            fine = [np.rint(piece * 2**_FINER).astype(np.int32) for piece in pieces]
            cv2.polylines(part, fine, False, colour, width, cv2.LINE_AA, _FINER)
        inside[:] = part
        # OpenCV draws on a copy of the pixels, so that Pillow needs a new canvas.
        self.canvas = Image.fromarray(pixels)
        self.ink = ImageDraw.Draw(self.canvas)

    def line_entry(
        self, place: tuple[float, float], text: str, colour: Colour, dashes: Sequence[int] = (), *, width: int = 300
    ) -> None:
        """Write an entry of a legend: a piece of the line and its name, which loses its middle beyond ``width``."""
        left, top = round(place[0]), round(place[1])
        flat = np.array([0.0, 1.0]), np.array([0.5, 0.5])
        self.lines(Panel(left, top, SAMPLE_WIDTH - 14, TEXT_LINE - 4), [flat], [colour], dashes=[dashes])
        self.text((left + SAMPLE_WIDTH, top), shorten(text, width - SAMPLE_WIDTH, TEXT_SIZE))

    def legend(self, place: tuple[float, float], entries: Sequence[tuple[str, Colour]]) -> None:
        """Write the meaning of filled colours in one row."""
        left, top = place
        for text, colour in entries:
            self.rectangle(left, top + 1, left + TEXT_SIZE, top + 1 + TEXT_SIZE, colour)
            self.text((left + TEXT_SIZE + 8, top), text)
            left += TEXT_SIZE + 8 + text_length(text, TEXT_SIZE) + 24


def wrap(text: str, width: int, size: int) -> list[str]:
    """Return a line in one or two lines of at most ``width`` pixels; what is still too long loses its middle."""
    if text_length(text, size) <= width:
        return [text]
    words = text.split(" ")
    fitting = [count for count in range(1, len(words)) if text_length(" ".join(words[:count]), size) <= width]
    if not fitting:
        return [shorten(text, width, size)]
    return [" ".join(words[: fitting[-1]]), shorten(" ".join(words[fitting[-1] :]), width, size)]


def _drop_close(places: np.ndarray) -> np.ndarray:
    """Return the points of a curve, [P, 2], that lie in another half pixel than those before, and both ends."""
    # A curve has a point per bin: only those that are apart in the picture are drawn.
    coarse = np.rint(places * 2).astype(np.int64)
    apart = np.ones(len(places), dtype=bool)
    apart[1:-1] = (coarse[1:-1] != coarse[:-2]).any(axis=1)
    kept: np.ndarray = places[apart]
    return kept


def _dashed(places: np.ndarray, dashes: Sequence[int]) -> list[np.ndarray]:
    """Cut a curve, [P, 2], into pieces of a length with gaps between them, measured along the curve."""
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(places, axis=0).T))])
    return [_between(places, lengths, start, start + dashes[0]) for start in _starts(lengths[-1], sum(dashes))]


def _starts(length: float, period: int) -> Iterator[float]:
    yield from np.arange(0.0, max(length, 1.0), period).tolist()


def _between(places: np.ndarray, lengths: np.ndarray, start: float, end: float) -> np.ndarray:
    ends = np.array([start, min(end, lengths[-1])])
    inner = places[(lengths > ends[0]) & (lengths < ends[1])]
    first, last = (np.array([np.interp(at, lengths, places[:, axis]) for axis in (0, 1)]) for at in ends)
    found: np.ndarray = np.concatenate([first[None], inner, last[None]])
    return found
