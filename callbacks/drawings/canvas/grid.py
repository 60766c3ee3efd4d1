"""A grid of captioned pictures under a title, in which all pictures of samples are drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .fonts import line_length, render_line
from .images import fit, heat_colours
from .theme import (
    CAPTION_SIZE,
    CARD_GAP,
    GREY,
    HEADING_LINE,
    HEADING_SIZE,
    INK,
    LEGEND_GAP,
    LINE,
    PAPER,
    SWATCH,
    SWATCH_INDENT,
    TILE_SIZE,
    Colour,
)

_FRAME = 4  # pixels of colour around each picture of a card
_LEGEND_ROWS = 3
_BAR = 96  # width of the colours of heat maps
_MORE_WIDTH = 80  # room for "+123 more" at the end of the last row of a legend


# A grid, from top to bottom:
#
#   title                          HEADING_LINE per line
#   note                           LINE, where there is one
#   [scale of heat maps]           LINE, where there is one
#   # name  # name  # name         legend, at most _LEGEND_ROWS
#   +-----------+  +-----------+
#   | picture(s)|  |           |   a card: a frame around its pictures, as many side by side as it has
#   +-----------+  +-----------+
#    line           line           its lines below, each cut to the width of a card
#
@dataclass(frozen=True)
class Card:
    """One sample of a grid.

    Attributes:
        pictures: one [H, W, 3] or several that stand side by side, uint8, RGB, of any sizes.
        lines: of text below; a line that is too long loses its middle.
        colour: of the frame, and of the lines in ``marked``.
        marked: indices of the lines that are written in the frame's colour.
    """

    pictures: np.ndarray | Sequence[np.ndarray]
    lines: Sequence[str]
    colour: Colour = GREY
    marked: Sequence[int] = ()

    @property
    def panels(self) -> list[np.ndarray]:
        """The pictures, as a list also where there is one."""
        return [self.pictures] if isinstance(self.pictures, np.ndarray) else list(self.pictures)


def card_width(panels: int, tile_size: int = TILE_SIZE) -> int:
    """Return the width in pixels of a card, which is that of its lines too."""
    return panels * (tile_size + _FRAME) + _FRAME


def draw_grid(
    cards: Sequence[Card],
    title: Sequence[str],
    *,
    tile_size: int = TILE_SIZE,
    legend: Sequence[tuple[str, Colour]] = (),
    note: str = "",
    scale: tuple[str, str] | None = None,
) -> np.ndarray:
    """Draw cards in rows, as near to a square as they go.

    Args:
        cards: at least one.
        title: lines above the grid.
        tile_size: side in pixels that each picture is scaled to.
        legend: names and colours below the title, the most important first; entries without room are counted.
        note: a small line between them.
        scale: meaning of both ends of the colours of heat maps; None: no bar of colours is drawn.

    Returns:
        [H, W, 3], uint8, RGB. H and W depend on the number of cards, of pictures per card, of lines and on the length
        of the title, not on the pictures' sizes.

    Example:
        >>> cards = [Card(np.zeros((8, 8, 3), dtype=np.uint8), [f"sample {index}"]) for index in range(4)]
        >>> picture = draw_grid(cards, ["four samples"])
        >>> picture.shape, picture.dtype.name
        ((403, 344, 3), 'uint8')
    """
    panels = max(len(card.panels) for card in cards)
    # A card with several pictures is wide: fewer of them make a square.
    columns = math.ceil(math.sqrt(len(cards) / panels))
    rows = math.ceil(len(cards) / columns)
    cell = (
        card_width(panels, tile_size) + CARD_GAP,
        card_width(1, tile_size) + LINE * max(len(card.lines) for card in cards) + CARD_GAP,
    )
    title_width = max((line_length(line, HEADING_SIZE) for line in title), default=0)
    width = max(columns * cell[0], math.ceil(title_width)) + 2 * CARD_GAP
    entries = _place_legend(legend, width - 2 * CARD_GAP)
    above = CARD_GAP + HEADING_LINE * len(title) + LINE * (bool(note) + (scale is not None))
    heading = above + LINE * (1 + max((row for _, _, row, _ in entries), default=-1))
    canvas = np.full((heading + rows * cell[1] + CARD_GAP, width, 3), PAPER[0], dtype=np.uint8)
    _write_title(canvas, title, note)
    if scale is not None:
        _draw_bar(canvas, (CARD_GAP, above - LINE), scale)
    _draw_legend(canvas, above, entries)
    for index, card in enumerate(cards):
        corner = (CARD_GAP + index % columns * cell[0], heading + CARD_GAP + index // columns * cell[1])
        _draw_card(canvas, card, corner, tile_size, panels)
    return canvas


def _write_title(canvas: np.ndarray, title: Sequence[str], note: str) -> None:
    for index, line in enumerate(title):
        write(canvas, (CARD_GAP, CARD_GAP + index * HEADING_LINE), line, size=HEADING_SIZE)
    if note:
        below = CARD_GAP + HEADING_LINE * len(title)
        write(canvas, (CARD_GAP, below), shorten(note, canvas.shape[1] - 2 * CARD_GAP))


def _draw_legend(canvas: np.ndarray, above: int, entries: Sequence[tuple[str, Colour | None, int, int]]) -> None:
    for text, colour, row, left in entries:
        top, start = above + row * LINE, CARD_GAP + left
        if colour is not None:
            canvas[top + 3 : top + 3 + SWATCH, start : start + SWATCH] = colour
            start += SWATCH_INDENT
        write(canvas, (start, top), text)


def _draw_card(canvas: np.ndarray, card: Card, corner: tuple[int, int], size: int, panels: int) -> None:
    (left, top), height = corner, card_width(1, size)
    right, bottom = left + card_width(len(card.panels), size) - 1, top + height - 1
    cv2.rectangle(canvas, (left, top), (right, bottom), card.colour, cv2.FILLED)  # NumPy fills it ten times slower
    for index, picture in enumerate(card.panels):
        start = left + _FRAME + index * (size + _FRAME)
        canvas[top + _FRAME : top + _FRAME + size, start : start + size] = fit(picture, size, background=PAPER)
    for index, line in enumerate(card.lines):
        colour = card.colour if index in card.marked else INK
        text = shorten(line, card_width(panels, size))
        write(canvas, (left, top + height + 1 + index * LINE), text, colour)


def _draw_bar(canvas: np.ndarray, corner: tuple[int, int], ends: tuple[str, str]) -> None:
    """Draw the colours of heat maps from 0 to 1, with what their ends mean at both sides."""
    (left, top), ramp = corner, heat_colours(np.linspace(0, 1, _BAR, dtype=np.float32)[None].repeat(SWATCH, axis=0))
    write(canvas, corner, ends[0])
    left += math.ceil(line_length(ends[0], CAPTION_SIZE)) + 6
    # Cut at the canvas: a grid of one card may be narrower than the bar.
    room = canvas[top + 3 : top + 3 + SWATCH, left : left + _BAR]
    room[:] = ramp[:, : room.shape[1]]
    write(canvas, (left + _BAR + 6, top), ends[1])


def _place_legend(legend: Sequence[tuple[str, Colour]], width: int) -> list[tuple[str, Colour | None, int, int]]:
    """Return text, colour, row and left edge of each entry that fits; the rest becomes an entry without colour."""
    placed: list[tuple[str, Colour | None, int, int]] = []
    row, left = 0, 0
    for index, (name, colour) in enumerate(legend):
        text = shorten(name, min(160, width - SWATCH_INDENT - _MORE_WIDTH))
        length = SWATCH_INDENT + math.ceil(line_length(text, CAPTION_SIZE)) + LEGEND_GAP
        last = row == _LEGEND_ROWS - 1
        if left and left + length > width - (_MORE_WIDTH if last else 0):
            if last:
                placed.append((f"+{len(legend) - index} more", None, row, left))
                break
            row, left = row + 1, 0
        placed.append((text, colour, row, left))
        left += length
    return placed


def write(
    canvas: np.ndarray, place: tuple[int, int], text: str, colour: Colour = INK, size: int = CAPTION_SIZE
) -> None:
    """Write dark text on the white of ``canvas``; ``place`` is its left and upper end, what lies outside is cut."""
    patch, (left, top) = _text_patch(text, size, colour)
    left, top = left + place[0], top + place[1]
    region = canvas[max(top, 0) : top + patch.shape[0], max(left, 0) : left + patch.shape[1]]
    # The darker of both, so that neighbouring letters do not cut each other.
    np.minimum(region, patch[: region.shape[0], : region.shape[1]], out=region)


# Rendering text costs more than all else of a grid, and most of it stands in many grids.
@lru_cache(maxsize=2048)
def _text_patch(text: str, size: int, colour: Colour) -> tuple[np.ndarray, tuple[int, int]]:
    """Return text on white, [h, w, 3], and the place of its corner."""
    mask, offset = render_line(text, size)
    if mask is None:
        return np.empty((0, 0, 3), dtype=np.uint8), (0, 0)
    # In integers with rounding, as the blend of Pillow; uint16, as the products exceed 255.
    cover = np.asarray(mask, dtype=np.uint16)[:, :, None]
    patch = 255 - (cover * (255 - np.array(colour, dtype=np.uint16)) + 127) // 255
    return patch.astype(np.uint8), offset


@lru_cache(maxsize=4096)
def shorten(text: str, width: int, size: int = CAPTION_SIZE) -> str:
    """Return ``text`` without as much of its middle as needed to be at most ``width`` pixels wide."""
    # The middle goes, as the ends of paths and ids tell samples apart.
    text = " ".join(text.splitlines())
    if line_length(text, size) <= width:
        return text
    # By halving, as measuring each length of a very long id would take long.
    fits, too_long = 1, len(text)
    while too_long - fits > 1:
        keep = (fits + too_long) // 2
        if line_length(_without_middle(text, keep), size) <= width:
            fits = keep
        else:
            too_long = keep
    return _without_middle(text, fits)


def list_names(head: str, names: Sequence[str], width: int) -> str:
    """Return ``head`` and as many of the names as fit into ``width`` pixels; the others are counted ("+3 more")."""
    for shown in range(min(len(names), width // 4), 0, -1):  # a name and its comma are wider than 4 pixels
        text = f"{head}: {', '.join(names[:shown])}" + (f" +{len(names) - shown} more" if shown < len(names) else "")
        if line_length(text, CAPTION_SIZE) <= width:
            return text
    more = f" +{len(names) - 1} more" if len(names) > 1 else ""
    return f"{head}: {shorten(names[0], width - math.ceil(line_length(f'{head}: {more}', CAPTION_SIZE)))}{more}"


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: math.ceil(keep / 2)]}…{text[len(text) - keep // 2 :]}"
