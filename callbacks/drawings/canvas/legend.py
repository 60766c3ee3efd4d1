"""The legend of a sheet: what areas, lines and dashed lines of a colour mean."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from .captions import shorten, write
from .fonts import line_length
from .theme import AXES, FRAME, INK, NOTE_LINE, NOTE_SIZE, PAPER, Colour

_ROWS = 3
_SQUARE = 20  # side of the symbol of an area
_LINE = 40  # length of that of a line
_DASH = 8
_SPACE = 8  # between a symbol and its text
_GAP = 18  # between entries
_LONGEST = 260  # name, in pixels
_MORE_WIDTH = 130  # room for "+123 more" at the end of the last row


class Entry(NamedTuple):
    """What a colour means: an ``area``, a ``striped`` one, a ``line`` or a ``dashed`` one."""

    name: str
    colour: Colour
    symbol: str = "area"

    @property
    def width(self) -> int:
        """The width of the symbol with the space behind it."""
        return (_LINE if self.is_line else _SQUARE) + _SPACE

    @property
    def is_line(self) -> bool:
        return self.symbol in ("line", "dashed")


# An entry without colour counts those that found no room.
Placed = tuple[Entry | None, str, int, int]


def place_legend(entries: Sequence[Entry], width: int) -> list[Placed]:
    """Return entry, text, row and left edge of each entry that fits; the rest is counted by one without an entry."""
    placed: list[Placed] = []
    row, left = 0, 0
    for index, entry in enumerate(entries):
        text = shorten(entry.name, min(_LONGEST, width - entry.width - _MORE_WIDTH), NOTE_SIZE)
        length = entry.width + math.ceil(line_length(text, NOTE_SIZE)) + _GAP
        last = row == _ROWS - 1
        if left and left + length - _GAP > width - (_MORE_WIDTH if last else 0):
            if last:
                placed.append((None, f"+{len(entries) - index} more", row, left))
                break
            row, left = row + 1, 0
        placed.append((entry, text, row, left))
        left += length
    return placed


def draw_legend(canvas: np.ndarray, corner: tuple[int, int], placed: Sequence[Placed]) -> None:
    """Draw the placed entries, the first one at ``corner``, its left and upper end."""
    for entry, text, row, left in placed:
        start, top = corner[0] + left, corner[1] + row * NOTE_LINE
        if entry is not None:
            _draw_symbol(canvas, entry, (start, top + NOTE_LINE // 2))
            start += entry.width
        write(canvas, (start, top), text, size=NOTE_SIZE)


def _draw_symbol(canvas: np.ndarray, entry: Entry, middle: tuple[int, int]) -> None:
    left, row = middle
    if not entry.is_line:
        _draw_square(canvas[row - _SQUARE // 2 : row + _SQUARE // 2, left : left + _SQUARE], entry)
        return
    line = canvas[row - FRAME // 2 : row + FRAME // 2, left : left + _LINE]
    line[:] = entry.colour
    if entry.symbol == "dashed":
        for start in range(_DASH, _LINE, 2 * _DASH):
            line[:, start : start + _DASH] = PAPER
    # Yellow and pale colours would be lost on the white around.
    cv2.rectangle(canvas, (left - 1, row - FRAME // 2 - 1), (left + _LINE, row + FRAME // 2), INK, 1)


def _draw_square(square: np.ndarray, entry: Entry) -> None:
    square[:] = entry.colour
    if entry.symbol == "striped":
        rows, columns = np.ogrid[:_SQUARE, :_SQUARE]
        square[(rows + columns) // FRAME % 2 == 1] = PAPER
    cv2.rectangle(square, (0, 0), (_SQUARE - 1, _SQUARE - 1), AXES, 1)
