"""A grid of captioned pictures under one title: the shape of every picture that shows samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .pictures import fit

Colour = tuple[int, int, int]

GREEN: Colour = (34, 139, 60)
RED: Colour = (205, 38, 38)
GREY: Colour = (150, 150, 150)

_INK: Colour = (30, 30, 30)
_PAPER: Colour = (255, 255, 255)
_FRAME = 4
_GAP = 10
_TITLE_SIZE = 17
_CAPTION_SIZE = 13
_LINE = 18


@dataclass(frozen=True)
class Card:
    """One picture of a grid.

    Attributes:
        picture: [H, W, 3], uint8, RGB, of any size.
        lines: what stands below it; a line that is too long loses its middle.
        colour: of the frame, and of the lines in ``marked``.
        marked: indices of the lines that are written in the frame's colour.
    """

    picture: np.ndarray
    lines: Sequence[str]
    colour: Colour = GREY
    marked: Sequence[int] = ()


def draw_grid(cards: Sequence[Card], title: Sequence[str], *, tile_size: int = 144) -> np.ndarray:
    """Draw cards in rows, as near to a square as they go.

    Args:
        cards: at least one.
        title: lines above the grid.
        tile_size: side in pixels that each picture is scaled to.

    Returns:
        [H, W, 3], uint8, RGB. H and W depend on the number of cards and of lines, not on the pictures' sizes.
    """
    columns = math.ceil(math.sqrt(len(cards)))
    rows = math.ceil(len(cards) / columns)
    side = tile_size + 2 * _FRAME
    cell = (side + _GAP, side + _LINE * max(len(card.lines) for card in cards) + _GAP)
    heading = _GAP + (_TITLE_SIZE + 6) * len(title)
    title_width = max((_font(_TITLE_SIZE).getlength(line) for line in title), default=0)
    width = max(columns * cell[0], math.ceil(title_width)) + 2 * _GAP
    canvas = Image.new("RGB", (width, heading + rows * cell[1] + _GAP), _PAPER)
    ink = ImageDraw.Draw(canvas)
    for index, line in enumerate(title):
        ink.text((_GAP, _GAP + index * (_TITLE_SIZE + 6)), line, fill=_INK, font=_font(_TITLE_SIZE))
    for index, card in enumerate(cards):
        left, top = _GAP + index % columns * cell[0], heading + _GAP + index // columns * cell[1]
        _draw_card(canvas, ink, card, left, top, tile_size)
    return np.array(canvas)


def _draw_card(canvas: Image.Image, ink: ImageDraw.ImageDraw, card: Card, left: int, top: int, size: int) -> None:
    side = size + 2 * _FRAME
    ink.rectangle((left, top, left + side - 1, top + side - 1), fill=card.colour)
    canvas.paste(Image.fromarray(fit(card.picture, size, background=_PAPER)), (left + _FRAME, top + _FRAME))
    for index, line in enumerate(card.lines):
        colour = card.colour if index in card.marked else _INK
        position = (left, top + side + 1 + index * _LINE)
        ink.text(position, shorten(line, side), fill=colour, font=_font(_CAPTION_SIZE))


def shorten(text: str, width: int, size: int = _CAPTION_SIZE) -> str:
    """Return ``text`` with as much of its middle left out as it takes to be at most ``width`` pixels wide."""
    font = _font(size)
    text = " ".join(text.splitlines())
    if font.getlength(text) <= width:
        return text
    fits, too_long = 1, len(text)
    while too_long - fits > 1:  # of a very long id every measurement counts
        keep = (fits + too_long) // 2
        if font.getlength(_without_middle(text, keep)) <= width:
            fits = keep
        else:
            too_long = keep
    return _without_middle(text, fits)


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: math.ceil(keep / 2)]}…{text[len(text) - keep // 2 :]}"


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # Matplotlib ships DejaVu Sans, which has Latin, Greek and Cyrillic letters; Pillow's own font is ASCII.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
