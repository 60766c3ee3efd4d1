"""A grid of captioned pictures under a title, in which all pictures of samples are drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ...measures.tile_shape import fitted_shape
from .captions import break_lines, shorten, write
from .fonts import line_length
from .images import fit, heat_over
from .legend import Entry, draw_legend, place_legend
from .theme import (
    CAPTION_LINE,
    FRAME,
    GREY,
    HEADING_LINE,
    HEADING_SIZE,
    INK,
    LARGEST_TILE_SIZE,
    NOTE_LINE,
    NOTE_SIZE,
    PAPER,
    SHEET_MARGIN,
    SHEET_WIDTH,
    TILE_SIZE,
    Colour,
)

_GAP = 12  # between cards
_ROOM = SHEET_WIDTH - 2 * SHEET_MARGIN
_CARD_WIDTHS = {1: _ROOM, 2: 332, 3: 220}  # by the number of columns
_BAR = 150  # width of the colours of heat maps
_MARK = 22  # side of a tick or a cross
MARK_ROOM = _MARK + 4  # what it takes of the first line


# A grid, from top to bottom:
#
#   title                          HEADING_LINE per line
#   note                           NOTE_LINE per line
#   [scale of heat maps]           NOTE_LINE, where there is one
#   # name  # name  # name         legend
#   +-----------+  +-----------+
#   | picture(s)|  |           |   a card: a frame around its pictures
#   +-----------+  +-----------+
#    line       x   line       v   its lines below, the first with a cross or a tick
#    name           name           its name, smaller
#
@dataclass(frozen=True)
class Card:
    """One sample of a grid.

    Attributes:
        pictures: one [H, W, 3] or several that stand in one frame, uint8, RGB, of any sizes.
        lines: of text below; a line that is too long loses its middle.
        colour: of the frame, and of the lines in ``marked``.
        marked: indices of the lines that are written in the frame's colour.
        right: whether a tick or a cross stands beside the first line; None: neither.
        name: a last line in smaller letters, such as the id of the sample.
    """

    pictures: np.ndarray | Sequence[np.ndarray]
    lines: Sequence[str]
    colour: Colour = GREY
    marked: Sequence[int] = ()
    right: bool | None = None
    name: str = ""

    @property
    def panels(self) -> list[np.ndarray]:
        """The pictures, as a list also where there is one."""
        return [self.pictures] if isinstance(self.pictures, np.ndarray) else list(self.pictures)


@dataclass(frozen=True)
class Layout:
    """How cards and the pictures within them are arranged.

    Attributes:
        columns: cards side by side.
        across: pictures side by side within a card; the others stand below.
        panels: pictures of a card.
        lowered: by how much the tiles are less high than wide, where no picture is as high.
    """

    columns: int
    across: int
    panels: int
    lowered: int = 0

    @property
    def tile(self) -> int:
        """Side in pixels of the square that each picture is scaled into."""
        return min(LARGEST_TILE_SIZE, (_CARD_WIDTHS[self.columns] - FRAME) // self.across - FRAME)

    @property
    def card(self) -> tuple[int, int]:
        """Width and height of the frame of a card; the width is that of its lines too."""
        return self.framed(self.panels)

    def framed(self, panels: int) -> tuple[int, int]:
        """Return width and height of the frame around so many pictures."""
        across, down = min(panels, self.across), math.ceil(panels / self.across)
        height = self.tile - self.lowered + FRAME
        return across * (self.tile + FRAME) + FRAME, down * height + FRAME


def arrange(cards: int, panels: int = 1, *, large: bool = False) -> Layout:
    """Return the layout of a grid, in which every picture is as large as it can be in a sheet of one width.

    Args:
        cards: how many there are.
        panels: how many pictures the largest of them has.
        large: whether the pictures need more room than a third of the sheet.

    Example:
        >>> arrange(12).tile, arrange(12, 2).tile, arrange(12, 4).tile, arrange(12, large=True).tile
        (208, 208, 157, 320)
    """
    if panels == 4:  # two by two
        return Layout(1 if cards == 1 else 2, 2, panels)
    if panels > 2 or (panels == 2 and cards == 1):
        return Layout(1, min(panels, 3), panels)
    # Three columns would leave holes between few cards.
    return Layout(2 if large or cards in (1, 2, 4, 10) else 3, 1, panels)


def _place(index: int, cards: int, columns: int) -> tuple[int, int]:
    """Return row and column of a card: of three columns two go into the last row rather than one alone."""
    is_pair = columns == 3 and cards % 3 == 1 and cards > 1 and index >= cards - 2
    return divmod(index + is_pair, columns)


def draw_grid(
    cards: Sequence[Card],
    title: Sequence[str],
    *,
    tile_size: int = TILE_SIZE,
    legend: Sequence[Entry | tuple[str, Colour]] = (),
    note: str = "",
    scale: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw cards in rows, twice as wide as a card of TensorBoard, so that they can be read there too.

    Args:
        cards: at least one.
        title: lines above the grid, broken where they are too long.
        tile_size: side in pixels that pictures need; larger than that of a third of the sheet, they get half of it.
        legend: names and colours below the title, the most important first; entries without room are counted.
        note: a small line between them, broken too.
        scale: meaning of the ends of the colours of heat maps, and of places at equal distances between them; None: no
            bar of colours is drawn.

    Returns:
        [H, 700, 3], uint8, RGB. H depends on the number of cards, of pictures per card, of lines, on the length of
        the title, and on the shape of the highest picture, not on its size.

    Example:
        >>> cards = [Card(np.zeros((8, 8, 3), dtype=np.uint8), [f"sample {index}"]) for index in range(6)]
        >>> picture = draw_grid(cards, ["six samples"])
        >>> picture.shape, picture.dtype.name
        ((588, 700, 3), 'uint8')
    """
    layout = _lower(arrange(len(cards), max(len(card.panels) for card in cards), large=tile_size > TILE_SIZE), cards)
    below = CAPTION_LINE * max(len(card.lines) for card in cards) + NOTE_LINE * any(card.name for card in cards)
    row_height = layout.card[1] + below + _GAP
    titles = [part for line in title for part in break_lines(line, _ROOM, HEADING_SIZE)]
    notes = break_lines(note, _ROOM, NOTE_SIZE)
    entries = place_legend([Entry(*entry) for entry in legend], _ROOM)
    top = SHEET_MARGIN + HEADING_LINE * len(titles)
    rows = len(notes) + (scale is not None) + 1 + max((row for _, _, row, _ in entries), default=-1)
    heading = top + NOTE_LINE * rows + (_GAP if titles or rows else 0)
    height = heading + math.ceil(len(cards) / layout.columns) * row_height
    canvas = np.full((height, SHEET_WIDTH, 3), PAPER[0], dtype=np.uint8)
    for index, line in enumerate(titles):
        write(canvas, (SHEET_MARGIN, SHEET_MARGIN + index * HEADING_LINE), line, size=HEADING_SIZE)
    for line in notes:
        write(canvas, (SHEET_MARGIN, top), line, size=NOTE_SIZE)
        top += NOTE_LINE
    if scale is not None:
        _draw_bar(canvas, (SHEET_MARGIN, top), scale)
        top += NOTE_LINE
    draw_legend(canvas, (SHEET_MARGIN, top), entries)
    for index, card in enumerate(cards):
        row, column = _place(index, len(cards), layout.columns)
        _draw_card(canvas, card, (SHEET_MARGIN + _left_of(column, layout), heading + row * row_height), layout)
    return canvas


def _lower(layout: Layout, cards: Sequence[Card]) -> Layout:
    """Return the layout with tiles that are as high as the highest picture."""
    highest = max(fitted_shape(panel.shape[:2], layout.tile)[0] for card in cards for panel in card.panels)
    return replace(layout, lowered=layout.tile - highest)


def _left_of(column: int, layout: Layout) -> int:
    # The cards of a row reach from one margin to the other.
    return column * (_ROOM - layout.card[0]) // max(1, layout.columns - 1)


def _draw_card(canvas: np.ndarray, card: Card, corner: tuple[int, int], layout: Layout) -> None:
    (left, top), panels, tile, lowered = corner, card.panels, layout.tile, layout.lowered
    width, height = layout.framed(len(panels))
    right, bottom = left + width - 1, top + height - 1
    cv2.rectangle(canvas, (left, top), (right, bottom), card.colour, cv2.FILLED)  # NumPy fills it ten times slower
    for index, picture in enumerate(panels):
        start = left + FRAME + index % layout.across * (tile + FRAME)
        above = top + FRAME + index // layout.across * (tile - lowered + FRAME)
        square = fit(picture, tile, background=PAPER)[lowered // 2 : tile - (lowered - lowered // 2)]
        canvas[above : above + len(square), start : start + tile] = square
    _write_lines(canvas, card, (left, top + layout.card[1]), layout.card[0])


def _write_lines(canvas: np.ndarray, card: Card, corner: tuple[int, int], width: int) -> None:
    left, top = corner
    for index, line in enumerate(card.lines):
        room = width - (MARK_ROOM if index == 0 and card.right is not None else 0)
        write(canvas, (left, top + 1), shorten(line, room), card.colour if index in card.marked else INK)
        if room < width:
            _draw_mark(canvas, (left + width - _MARK, top + 6), card)
        top += CAPTION_LINE
    write(canvas, (left, top), shorten(card.name, width, NOTE_SIZE), size=NOTE_SIZE)


def _draw_mark(canvas: np.ndarray, corner: tuple[int, int], card: Card) -> None:
    """Draw a tick or a cross: a glyph of a font would be too thin."""
    end = _MARK - FRAME // 2
    tick = [[(FRAME // 2, 12), (9, 19), (end, 4)]]
    cross = [[(FRAME // 2, 3), (end, 20)], [(FRAME // 2, 20), (end, 3)]]
    lines = [
        np.array(line, dtype=np.int32) + np.array(corner, dtype=np.int32) for line in (tick if card.right else cross)
    ]
    cv2.polylines(canvas, lines, False, card.colour, FRAME, cv2.LINE_AA)


def _draw_bar(canvas: np.ndarray, corner: tuple[int, int], texts: Sequence[str]) -> None:
    """Draw the colours of heat maps from 0 to 1 over grey, in parts with a text before, between and behind them."""
    left, top = corner
    write(canvas, corner, texts[0], size=NOTE_SIZE)
    ends = np.linspace(0, 1, len(texts))
    for start, end, before, text in zip(ends[:-1], ends[1:], texts[:-1], texts[1:], strict=True):
        ramp = np.linspace(start, end, _BAR, dtype=np.float32)[None]
        bar = heat_over(np.full((20, _BAR, 3), 128, dtype=np.uint8), ramp)
        left += math.ceil(line_length(before, NOTE_SIZE)) + 8
        # Cut at the canvas, where the text before is long.
        room = canvas[top + 4 : top + 24, left : left + _BAR]
        room[:] = bar[:, : room.shape[1]]
        left += _BAR + 8
        write(canvas, (left, top), text, size=NOTE_SIZE)
