"""``MatrixSheet``: a canvas for a matrix of cells, with the names of its rows and columns."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from .grid import shorten
from .text import text_length, write_text
from .theme import GAP, INK, LINE, PAPER, TEXT_SIZE, TITLE_LINE, TITLE_SIZE, Colour

_NAME_WIDTH = 170
_SCALE_WIDTH = 124  # the scale of colours, its numbers and its caption
_LEAST_HEIGHT = 170  # of the same, where the matrix is lower
_LEAST_NAMED = 14  # height of a cell that has room for a name


#            left            right
#   title      |               |
#        top   +---+---+---+---+
#   r    name -|   |   |   |   |   scale
#   o          +---+---+---+---+   of
#   w    name -|   |   |   |   |   colours
#   s  bottom  +---+---+---+---+
#                |   |   |   |
#               name  (upwards where they are wider than a cell)
#                  columns
class MatrixSheet:
    """The canvas, with title and names written.

    Where cells are too thin for names, some rows or columns are marked by number.

    Args:
        names: of rows and of columns.
        axes: what rows and columns are.
        title: lines above.
        cell_width: in pixels; None: its height, which follows from the number of rows.
        every: number of classes that a row or column stands for, by which thin ones are numbered.

    Attributes:
        cell: width and height of a cell.
        left, top, right, bottom: of all cells.
    """

    def __init__(
        self,
        names: tuple[Sequence[str], Sequence[str]],
        axes: tuple[str, str],
        title: Sequence[str],
        *,
        cell_width: int | None = None,
        every: int = 1,
    ):
        height = _cell_size(len(names[0]))
        self.cell = (cell_width or height, height)
        rows, columns = _shorten_names(names[0], height, every), _shorten_names(names[1], self.cell[0], every)
        # Columns are named upwards as soon as one name is wider than its cell, so that all read the same way.
        flat = self.cell[0] < _LEAST_NAMED or _longest_width(columns) <= self.cell[0] - 4
        below = LINE if flat else math.ceil(_longest_width(columns)) + 4
        self.left = GAP + LINE + math.ceil(_longest_width(rows)) + 10
        self.top = 2 * GAP + TITLE_LINE * len(title)
        self.right, self.bottom = self.left + len(columns) * self.cell[0], self.top + len(rows) * height
        self.canvas = Image.new("RGB", self._size(title, below), PAPER)
        self.ink = ImageDraw.Draw(self.canvas)
        for index, line in enumerate(title):
            self.text((GAP, GAP + index * TITLE_LINE), line, anchor="la", size=TITLE_SIZE)
        self._name_rows(rows)
        self._name_columns(columns, flat)
        self.vertical_text((GAP + 6, (self.top + self.bottom) / 2), axes[0], centred=True)
        self.text(((self.left + self.right) / 2, self.bottom + 10 + below), axes[1], anchor="ma")

    def _size(self, title: Sequence[str], below: int) -> tuple[int, int]:
        heading = max((text_length(line, TITLE_SIZE) for line in title), default=0)
        width = max(self.right + 2 * GAP + _SCALE_WIDTH, math.ceil(heading) + 2 * GAP)
        return width, max(self.bottom + 8 + below + LINE, self.top + _LEAST_HEIGHT) + GAP

    def text(
        self, place: tuple[float, float], text: str, *, anchor: str, fill: Colour = INK, size: int = TEXT_SIZE
    ) -> None:
        write_text(self.canvas, place, text, fill=fill, size=size, anchor=anchor)

    def vertical_text(self, place: tuple[float, float], text: str, *, centred: bool = False) -> None:
        """Write a text that reads upwards; ``place`` is its upper end, or its middle."""
        length = math.ceil(text_length(text, TEXT_SIZE)) + 2
        # Pillow writes no turned text: it is written flat on a mask of its own, which is turned and inked.
        mask = Image.new("L", (length, LINE), 0)
        write_text(mask, (1, LINE / 2), text, fill=255, size=TEXT_SIZE, anchor="lm")
        corner = (round(place[0] - LINE / 2), round(place[1] - (length / 2 if centred else 0)))
        self.canvas.paste(INK, corner, mask.rotate(90, expand=True))

    def _name_rows(self, names: Sequence[str]) -> None:
        for index in _marked_indices(len(names), self.cell[1]):
            middle = self.top + (index + 0.5) * self.cell[1]
            self.text((self.left - 8, middle), names[index], anchor="rm")
            self.ink.line((self.left - 5, middle, self.left - 2, middle), fill=INK)

    def _name_columns(self, names: Sequence[str], flat: bool) -> None:
        for index in _marked_indices(len(names), self.cell[0]):
            middle = self.left + (index + 0.5) * self.cell[0]
            self.ink.line((middle, self.bottom + 2, middle, self.bottom + 5), fill=INK)
            if flat:
                self.text((middle, self.bottom + 7), names[index], anchor="ma")
            else:
                self.vertical_text((middle, self.bottom + 8), names[index])


def _cell_size(count: int) -> int:
    # Side of a cell by number of rows: 56 holds a count and a share, 42 both in small, 28 one of them.
    for most, size in ((10, 56), (20, 42), (40, 28)):
        if count <= most:
            return size
    return max(1, 800 // count)  # larger matrices have at most 800 pixels


def _shorten_names(names: Sequence[str], size: int, every: int) -> list[str]:
    if size < _LEAST_NAMED:
        return [str(number) for number in range(0, every * len(names), every)]
    return [shorten(name, _NAME_WIDTH, TEXT_SIZE) for name in names]


def _longest_width(texts: Sequence[str]) -> float:
    return max(text_length(text, TEXT_SIZE) for text in texts)


def _marked_indices(count: int, cell: int) -> range:
    """Return which of the classes are marked: all where there is room for names, otherwise each 2nd, 5th, 10th, ..."""
    least = 1 if cell >= _LEAST_NAMED else math.ceil(34 / cell)  # a number of four digits is 34 pixels wide
    every = next(step * 10**power for power in range(9) for step in (1, 2, 5) if step * 10**power >= least)
    return range(0, count, every)
