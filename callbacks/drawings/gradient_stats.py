"""Draw gradients, one row per parameter in the order of the model: norms over epochs, ranges by depth."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from .canvas.grid import shorten
from .canvas.text import text_length, write_text
from .canvas.theme import (
    BLUE,
    GAP,
    GRID_LINES,
    INK,
    LEGEND_GAP,
    LINE,
    PAPER,
    RED,
    SWATCH,
    SWATCH_INDENT,
    TITLE_LINE,
    TITLE_SIZE,
    Colour,
)

# None of these is a colour of Viridis, which shows the norms.
MISSING: Colour = (205, 205, 205)
ZERO: Colour = (0, 0, 0)
BROKEN: Colour = (255, 0, 200)

_PALE_BLUE: Colour = (160, 190, 240)
_PALE_GREEN: Colour = (214, 240, 214)
_HEALTHY_RATIOS = (3e-4, 3e-3)  # around the rule of thumb that an update is a thousandth of its weight
_TEXT_SIZE = 11
_LABEL_WIDTHS = (230, 380)
_MOST_DECADES = 14  # of a scale: a tiny norm would otherwise press all others together
_LEGEND = (("no gradient", MISSING), ("norm 0", ZERO), ("NaN or infinite", BROKEN))


#   title
#            epochs
#   name    +---------------+   scale
#   name    |  norms, one   |   of
#   name    |  per cell     |   norms
#           +---------------+
#   epoch    1    2    3
#   legend
def draw_map(norms: np.ndarray, names: Sequence[str], epochs: Sequence[int], title: Sequence[str]) -> np.ndarray:
    """Draw the norms of all parameters over epochs as colours.

    Args:
        norms: [P, E]; NaN where there was no gradient, infinite where some value was not finite.
        names: of the P parameters, P at least 1.
        epochs: their E numbers, E at least 1.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    cell = min(40, max(6, 640 // len(epochs)))
    width = max(cell * len(epochs), 60)
    sheet = _Sheet(names, title, [width, 90])  # 90: the scale of colours and its numbers
    left, scale_left = sheet.lefts
    low, high = _log_range(norms)
    cells = _norm_colours(norms, low, high).repeat(sheet.row, axis=0).repeat(cell, axis=1)
    sheet.canvas.paste(Image.fromarray(cells), (left, sheet.top))
    # The number of an epoch needs 30 pixels: with narrow cells only some are numbered.
    every = math.ceil(30 / cell)
    for column in range(0, len(epochs), every):
        sheet.text((left + column * cell, sheet.bottom + 3), str(epochs[column]))
    sheet.text((left - 8, sheet.bottom + 3), "epoch", anchor="ra")
    _draw_scale(sheet, scale_left, low, high)
    sheet.legend(_LEGEND)
    return np.array(sheet.canvas)


#   title
#           min, mean ± std, max    norm       zeros      where they apply:
#   name   |-----[==|==]-----|      |====      |=         NaN or infinite,
#   name   |   [=|=]         |      |==        |          update / weight
#           -1e0     0     1e0      1e-3  1e0
#   legend
def draw_flow(stats: Mapping[str, np.ndarray], names: Sequence[str], title: Sequence[str]) -> np.ndarray:
    """Draw how large the gradients are by depth: their range on a symmetric log scale, norm, and share of zeros.

    Args:
        stats: ``min``, ``mean``, ``max``, ``std``, ``norm``, ``zeros`` (NaN where there was no gradient),
            ``broken_steps`` and ``non_finite`` (share of such values in broken steps, NaN where it is not known), [P]
            each; optionally ``update_ratio`` (NaN where there is none). The last two have a panel where they apply.
        names: of the P parameters, P at least 1.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    broken = stats["broken_steps"] > 0
    widths = {"range": 380, "norm": 220, "zeros": 90}
    if broken.any():
        widths["non_finite"] = 120
    if "update_ratio" in stats:
        widths["update_ratio"] = 160
    sheet = _Sheet(names, title, list(widths.values()))
    lefts = dict(zip(widths, sheet.lefts, strict=True))
    _draw_ranges(sheet, lefts["range"], 380, stats)
    _draw_norms(sheet, lefts["norm"], 220, stats["norm"])
    _draw_zeros(sheet, lefts["zeros"], 70, stats["zeros"])
    # A row without a gradient is grey across the whole range, so that it is not taken for a range around 0.
    for index in np.flatnonzero(~np.isfinite(stats["norm"])):
        sheet.bar(index, lefts["range"], lefts["range"] + 380, MISSING)
    # Left of the range: the statistics beside the mark are those of the steps that were finite.
    for index in np.flatnonzero(broken):
        sheet.bar(index, lefts["range"] - 6, lefts["range"] - 2, BROKEN)
    if "non_finite" in lefts:
        _draw_non_finite(sheet, lefts["non_finite"], 70, np.where(broken, stats["non_finite"], 0.0))
    if "update_ratio" in lefts:
        _draw_update_ratios(sheet, lefts["update_ratio"], 160, stats["update_ratio"])
    shown = [("min to max", _PALE_BLUE), ("mean ± std", BLUE), ("mean", RED), _LEGEND[0]]
    sheet.legend([*shown, ("some steps NaN or infinite", BROKEN)])
    return np.array(sheet.canvas)


class _Sheet:
    """A canvas with the names of the parameters on the left, and panels beside them.

    Attributes:
        row: height of a parameter's row.
        top: where the first row begins.
        bottom: where the last row ends.
        label: where the names end.
        lefts: where each panel begins.
    """

    def __init__(self, names: Sequence[str], title: Sequence[str], widths: Sequence[int]):
        # 18 and more hold a name each; thin rows name some of the parameters, see _name_rows.
        self.row = 18 if len(names) <= 40 else 9 if len(names) <= 100 else 7
        self.top = GAP + TITLE_LINE * len(title) + LINE
        longest = max(text_length(name, _TEXT_SIZE) for name in names)
        self.label = GAP + min(max(math.ceil(longest) + 30, _LABEL_WIDTHS[0]), _LABEL_WIDTHS[1])
        self.bottom = self.top + max(self.row * len(names), 110)
        starts = np.cumsum([self.label + 20, *(width + 30 for width in widths)])
        self.lefts = starts[:-1].tolist()
        size = (max(int(starts[-1]), GAP + 640), self.bottom + 3 * LINE)
        self.canvas = Image.new("RGB", size, PAPER)
        self.ink = ImageDraw.Draw(self.canvas)
        for index, line in enumerate(title):
            place = (GAP, GAP + index * TITLE_LINE)
            text = shorten(line, size[0] - 2 * GAP, TITLE_SIZE)
            write_text(self.canvas, place, text, fill=INK, size=TITLE_SIZE, anchor="la")
        self._name_rows(names)

    def text(self, place: tuple[float, float], text: str, anchor: str = "la") -> None:
        write_text(self.canvas, place, text, fill=INK, size=_TEXT_SIZE, anchor=anchor)

    def bar(self, index: int | np.integer, start: float, end: float, colour: Colour) -> None:
        # At least one pixel wide, so that no value is invisible; a free line separates rows.
        top = self.top + int(index) * self.row
        self.ink.rectangle((round(start), top + 1, max(round(end), round(start) + 1), top + self.row - 2), fill=colour)

    def axis(self, left: float, text: str) -> None:
        """Draw one line of a panel's grid, with its number."""
        self.ink.line((left, self.top, left, self.bottom), fill=GRID_LINES)
        self.text((left, self.bottom + 3), text, anchor="ma")

    def legend(self, entries: Sequence[tuple[str, Colour]]) -> None:
        left, top = float(GAP), self.bottom + 2 * LINE - 4
        for text, colour in entries:
            self.ink.rectangle((left, top, left + SWATCH, top + SWATCH), fill=colour)
            self.text((left + SWATCH_INDENT, top - 1), text)
            left += SWATCH_INDENT + text_length(text, _TEXT_SIZE) + LEGEND_GAP

    def _name_rows(self, names: Sequence[str]) -> None:
        """Name the rows; of thin ones only some, each with its number, by which the others can be found."""
        every = math.ceil(14 / self.row)  # a line of text is 14 pixels high
        for index in range(0, len(names), every):
            middle = self.top + (index + 0.5) * self.row
            number = f"{index + 1} " if every > 1 else ""
            text = number + shorten(names[index], self.label - GAP - 30, _TEXT_SIZE)
            self.text((self.label, middle), text, anchor="rm")
            self.ink.line((self.label + 4, middle, self.label + 10, middle), fill=INK)


def _draw_ranges(sheet: _Sheet, left: float, width: int, stats: Mapping[str, np.ndarray]) -> None:
    # Symmetric log: decades left and right of a centre that holds all that is smaller than the smallest decade.
    low, high = _log_range(np.maximum(np.abs(stats["min"]), np.abs(stats["max"])))
    middle, half = left + width / 2, width / 2 - 4

    def place(value: float) -> float:
        decades = 0.0 if value == 0 else max(math.log10(abs(value)) - low, 0.0)
        return middle + math.copysign(half * min(decades / (high - low), 1.0), value)

    sheet.text((left, sheet.top - 6), f"min, mean ± std, max (symmetric log; centre: below 1e{low:d})", anchor="ls")
    for decade in range(high, low, -max(1, math.ceil((high - low) / 4))):
        sheet.axis(place(10.0**decade), f"1e{decade}")
        sheet.axis(place(-(10.0**decade)), f"-1e{decade}")
    sheet.axis(middle, "0")
    for index, mean in enumerate(stats["mean"]):
        if np.isfinite(stats["norm"][index]):
            std = stats["std"][index]
            # From wide to narrow, each on top of the one before.
            sheet.bar(index, place(stats["min"][index]), place(stats["max"][index]), _PALE_BLUE)
            sheet.bar(index, place(mean - std), place(mean + std), BLUE)
            sheet.bar(index, place(mean) - 1, place(mean) + 1, RED)


def _draw_norms(sheet: _Sheet, left: float, width: int, norms: np.ndarray) -> None:
    low, high = _log_range(norms)
    sheet.text((left, sheet.top - 6), "L2 norm (log)", anchor="ls")
    for decade in range(high, low - 1, -max(1, math.ceil((high - low) / 4))):
        sheet.axis(left + width * (decade - low) / (high - low), f"1e{decade}")
    colours = _norm_colours(norms[:, None], low, high)[:, 0]
    for index, norm in enumerate(norms):
        share = 0.0
        if np.isfinite(norm) and norm > 0:
            # At least a hundredth: a small norm differs from none.
            share = float(np.clip((math.log10(norm) - low) / (high - low), 0.01, 1))
        sheet.bar(index, left, left + max(width * share, 3), tuple(colours[index].tolist()))


def _draw_zeros(sheet: _Sheet, left: float, width: int, shares: np.ndarray) -> None:
    sheet.text((left, sheet.top - 6), "zeros, 0 to 100%", anchor="ls")
    for index in np.flatnonzero(shares > 0):
        sheet.bar(index, left, left + width * shares[index], ZERO)


def _draw_non_finite(sheet: _Sheet, left: float, width: int, shares: np.ndarray) -> None:
    """Draw the shares as bars, and as text where the rows have room for it; NaN is a share that is not known."""
    sheet.text((left, sheet.top - 6), "NaN or infinite, share", anchor="ls")
    for index in np.flatnonzero(shares != 0):
        share = shares[index]
        if share > 0:
            sheet.bar(index, left, left + width * share, BROKEN)
        if sheet.row >= _TEXT_SIZE + 3:
            middle = sheet.top + (index + 0.5) * sheet.row
            text = "not counted" if math.isnan(share) else "<0.1%" if share < 1e-3 else f"{share:.1%}"
            sheet.text((left if math.isnan(share) else left + width * share + 5, middle), text, anchor="lm")


def _draw_update_ratios(sheet: _Sheet, left: float, width: int, ratios: np.ndarray) -> None:
    # With the healthy range on the scale, also where all ratios lie far from it.
    low, high = _log_range(np.append(ratios, _HEALTHY_RATIOS))
    ends = [left + width * (math.log10(ratio) - low) / (high - low) for ratio in _HEALTHY_RATIOS]
    sheet.ink.rectangle((round(ends[0]), sheet.top, round(ends[1]), sheet.bottom), fill=_PALE_GREEN)
    sheet.text((left, sheet.top - 6), "update / weight (log)", anchor="ls")
    for decade in range(high, low - 1, -max(1, math.ceil((high - low) / 4))):
        sheet.axis(left + width * (decade - low) / (high - low), f"1e{decade}")
    for index in np.flatnonzero(np.isfinite(ratios)):
        share = (math.log10(ratios[index]) - low) / (high - low) if ratios[index] > 0 else 0.0
        place = left + width * min(max(share, 0.0), 1.0)
        sheet.bar(index, place - 2, place + 2, BLUE if ratios[index] > 0 else ZERO)


def _draw_scale(sheet: _Sheet, left: float, low: int, high: int) -> None:
    height = min(sheet.bottom - sheet.top, 320)
    ramp = np.logspace(high, low, height)[:, None].repeat(16, axis=1)
    sheet.canvas.paste(Image.fromarray(_norm_colours(ramp, low, high)), (round(left), sheet.top))
    for decade in range(high, low - 1, -max(1, math.ceil((high - low) / (height // 16)))):
        sheet.text((left + 22, sheet.top + height * (high - decade) / (high - low)), f"1e{decade}", anchor="lm")


def _log_range(values: np.ndarray) -> tuple[int, int]:
    """Return the powers of ten between which the values lie, at least four apart."""
    # A narrower scale would make small differences look large.
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return -4, 0
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    missing = max(0, 4 - (high - low))
    low, high = low - missing // 2 - missing % 2, high + missing // 2
    return max(low, high - _MOST_DECADES), high


def _norm_colours(norms: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the colour of each norm, [..., 3], on a log scale from ``low`` to ``high``, [P, E] in."""
    known = np.isfinite(norms) & (norms > 0)
    levels = (np.log10(np.where(known, norms, 1.0)) - low) / (high - low)
    ramp = cv2.applyColorMap((np.clip(levels, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    colours: np.ndarray = cv2.cvtColor(ramp, cv2.COLOR_BGR2RGB)
    for mask, colour in ((np.isnan(norms), MISSING), (norms == 0, ZERO), (np.isinf(norms), BROKEN)):
        colours[mask] = colour
    return colours
