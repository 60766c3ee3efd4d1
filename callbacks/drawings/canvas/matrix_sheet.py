"""``MatrixSheet``: a chart of cells, with the names of its rows and columns, and with margins."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from .captions import shorten
from .chart import Chart, Panel
from .text import text_length, write_text
from .theme import CHART_WIDTH, GAP, INK, TEXT_LINE, TEXT_SIZE

_MARGIN = 72  # least width of a column at the right margin, which holds ">99%"
MARGIN_GAP = 6  # between the cells and a margin

_NAME_WIDTHS = (150, 104)  # of few columns, and of more than _MANY
_MANY = 7
_LEAST_NAMED = TEXT_SIZE + 3  # height of a row that has room for a name


class LowerRow(NamedTuple):
    """How the numbers of a row of the lower margin are written; without texts there is no room for them."""

    texts: Sequence[str] = ()
    is_turned: bool = False
    height: int = TEXT_LINE


#   title
#            left            right
#             | predicted ->  |
#   true      | name  name    |  recall
#        top  +---+---+---+---+  +---+
#    name    -|   |   |   |   |  |   |
#             +---+---+---+---+  |   |   margins
#    name    -|   |   |   |   |  |   |
#     bottom  +---+---+---+---+  +---+
#  precision  |   |   |   |   |
#             +---+---+---+---+
class MatrixSheet(Chart):
    """The chart, with title and names written.

    Where cells are too thin for names, some rows or columns are marked by number.

    Args:
        names: of rows and of columns.
        axes: what rows and columns are.
        title: lines above.
        row_height: in pixels; None: cells are square.
        right: captions of the columns at the right margin.
        below: texts of the rows at the lower margin, by caption.
        rest: height in pixels of what follows below all.
        every: number of classes that a row or column stands for, by which thin ones are numbered.
        blocks: names of the equal parts that the rows have, if any.

    Attributes:
        panel: where the cells are.
        lower: how each row at the lower margin is written.
        foot: where the lower margin ends.
    """

    def __init__(
        self,
        names: tuple[Sequence[str], Sequence[str]],
        axes: tuple[str, str],
        title: Sequence[str],
        *,
        row_height: int | None = None,
        below: Mapping[str, Sequence[str]],
        right: Sequence[str] = (),
        rest: int = 0,
        every: int = 1,
        blocks: Sequence[str] = (),
    ):
        rows, columns = len(names[0]), len(names[1])
        widest = _NAME_WIDTHS[columns > _MANY]
        heads = [shorten(f"{axes[0]} ↓", widest, TEXT_SIZE), *below]
        left = GAP + bool(blocks) * TEXT_LINE + max(min(_longest([*names[0], *heads]), widest), _longest(heads)) + 14
        self.margin = max(_MARGIN, _longest(right) + 10) if right else 0
        width = CHART_WIDTH - left - (GAP if not right else MARGIN_GAP + len(right) * self.margin + 4)
        self.blocks, self.counts = blocks, (rows, columns)
        height = row_height * rows if row_height else width * rows // columns
        self.cell = width / columns, height / rows
        shown = [shorten(name, widest, TEXT_SIZE) for name in names[1]]
        # Columns are named upwards as soon as one name is wider than its cell, so that all read the same way.
        thin = self.cell[0] < _LEAST_NAMED
        self.flat = thin or _longest(shown) <= self.cell[0] - 4
        head = TEXT_LINE + (TEXT_LINE if self.flat else _longest(shown) + 14)
        self.lower = [_fit_row(texts, self.cell[0]) for texts in below.values()]
        foot = bool(below) * MARGIN_GAP + sum(row.height for row in self.lower)
        super().__init__(head + height + foot + rest, title)
        self.panel = Panel(left, self.top + head, width, height)
        self.foot = self.panel.bottom + foot
        self._name_rows(_marks(names[0], self.cell[1], TEXT_LINE, every), widest, heads)
        # A number of four digits is 56 pixels wide.
        self._name_columns(_marks(shown, self.cell[0], 66 if thin else TEXT_LINE, every), axes[1], right)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return the edges of a cell: left, top, right, bottom; rows and columns beyond the last are in the margin."""
        x = [round(self.panel.left + at * self.cell[0]) for at in (column, column + 1)]
        y = [round(self.panel.top + at * self.cell[1]) for at in (row, row + 1)]
        if (place := column - self.counts[1]) >= 0:
            x = [self.panel.right + MARGIN_GAP + at * self.margin for at in (place, place + 1)]
        if (place := row - self.counts[0]) >= 0:
            start = self.panel.bottom + MARGIN_GAP + sum(lower.height for lower in self.lower[:place])
            y = [start, start + self.lower[place].height]
        return x[0], y[0], x[1], y[1]

    def vertical_text(self, place: tuple[float, float], text: str) -> None:
        """Write a text that reads upwards; ``place`` is the middle of its lower end."""
        length = math.ceil(text_length(text, TEXT_SIZE)) + 2
        # Pillow writes no turned text: it is written flat on a mask of its own, which is turned and inked.
        mask = Image.new("L", (length, TEXT_LINE), 0)
        write_text(mask, (1, TEXT_LINE / 2), text, fill=255, size=TEXT_SIZE, anchor="lm")
        corner = (round(place[0] - TEXT_LINE / 2), round(place[1]) - length)
        self.canvas.paste(INK, corner, mask.rotate(90, expand=True))

    def name_blocks(self) -> None:
        """Name the parts of the rows, and draw a line between them; called when the cells are there."""
        names = self.blocks
        for index, name in enumerate(names):
            height = self.panel.height / len(names)
            text = shorten(name, round(height) - 8, TEXT_SIZE)
            lower = self.panel.top + (index + 0.5) * height + text_length(text, TEXT_SIZE) / 2
            self.vertical_text((GAP + TEXT_LINE / 2, lower), text)
            # A line between blocks, as their rows would otherwise look like one matrix.
            if index:
                top = self.panel.top + index * height
                self.rectangle(GAP, top - 2, self.panel.right, top + 2, INK)

    def _name_rows(self, marks: Sequence[tuple[int, str]], width: int, heads: Sequence[str]) -> None:
        self.text((self.panel.left - 12, self.panel.top - 6), heads[0], anchor="rs")
        for index, name in marks:
            middle = self.panel.top + (index + 0.5) * self.cell[1]
            self.text((self.panel.left - 12, middle), shorten(name, width, TEXT_SIZE), anchor="rm")
            self.rectangle(self.panel.left - 8, middle - 1, self.panel.left - 2, middle + 1, INK)
        for index, name in enumerate(heads[1:]):
            _, top, _, bottom = self.box(self.counts[0] + index, 0)
            self.text((self.panel.left - 12, (top + bottom) / 2), name, anchor="rm")

    def _name_columns(self, marks: Sequence[tuple[int, str]], axis: str, right: Sequence[str]) -> None:
        self.text((self.panel.left, self.top), axis)
        for index, name in marks:
            middle = self.panel.left + (index + 0.5) * self.cell[0]
            self.rectangle(middle - 1, self.panel.top - 8, middle + 1, self.panel.top - 2, INK)
            if self.flat:
                self.text((middle, self.panel.top - 10), name, anchor="ms")
            else:
                self.vertical_text((middle, self.panel.top - 12), name)
        for index, name in enumerate(right):
            left, _, end, _ = self.box(0, self.counts[1] + index)
            self.text(((left + end) / 2, self.panel.top - 10), name, anchor="ms")


def _longest(texts: Sequence[str]) -> int:
    return math.ceil(max(text_length(text, TEXT_SIZE) for text in texts))


def _fit_row(texts: Sequence[str], width: float) -> LowerRow:
    """Return how the numbers below columns of a width are written: flat, without a sign of percent, or upwards."""
    if width < _LEAST_NAMED:
        return LowerRow()
    # Totals of three digits beside each other need a gap, of shares few have three.
    room = width - (0 if any(text.endswith("%") for text in texts) else 6)
    for some in (texts, [text.rstrip("%") for text in texts]):
        if _longest(some) <= room:
            return LowerRow(some)
    return LowerRow(texts, True, _longest(texts) + 10)


def _marks(names: Sequence[str], cell: float, room: int, every: int) -> list[tuple[int, str]]:
    """Return which rows or columns are marked, and by what.

    That is each by its name where there is room, otherwise each 2nd, 5th, 10th, ... by its number.
    """
    if cell >= _LEAST_NAMED:
        return list(enumerate(names))
    least = math.ceil(room / cell)
    step = next(step * 10**power for power in range(9) for step in (1, 2, 5) if step * 10**power >= least)
    return [(index, str(index * every)) for index in range(0, len(names), step)]
