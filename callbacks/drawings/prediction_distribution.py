"""Draw predicted probabilities by true class: charts for few classes, a map for many."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .canvas.chart import Chart, Panel
from .canvas.grid import shorten
from .canvas.theme import (
    ABSENT,
    AXES,
    BLUE,
    GAP,
    INK,
    LINE,
    ORANGE,
    PAPER,
    RED,
    SWATCH,
    SWATCH_INDENT,
    TEXT_SIZE,
    TITLE_LINE,
    Colour,
)

MOST_CHARTS = 24  # six rows; more classes are a map

_HALF: Colour = (120, 120, 120)
_COLUMNS = 4
_NAME_WIDTH = 190
_MAP_WIDTH = 320
# Shares at which the vertical axis may end, and at which it has numbers.
_LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_WHOLE = {0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"}
_SMALL = {0.0: "0", 0.5: "0.5", 1.0: "1"}


# Two classes         up to MOST_CHARTS          more
#
#   title               title                      title
#   # A  # B            # others  # of the class   others      of the class
#   +----------+        +----+ +----+ +----+       +-------+   +-------+
#   |_-_   _--_|        |_-_-| |    | |    |  name |.:::.  |   |   .::.|  scale
#   +----------+        +----+ +----+ +----+       +-------+   +-------+
#    probability        +----+ +----+               0     1     0     1
def draw_distribution(
    shares: np.ndarray,
    totals: np.ndarray,
    thresholds: np.ndarray,
    undecided: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    bounds: tuple[float, float],
) -> np.ndarray:
    """Draw the histogram of the probabilities of each class, for true samples and for all others.

    Args:
        shares: [C, 2, G], by class, target (no, yes) and probability from 0 to 1; NaN where there is no such sample.
        totals: [C, 2], number of samples.
        thresholds: [C], probability where F1 is best; NaN where there is none.
        undecided: [C, 2], shares that lie between ``bounds``; NaN where there is no such sample.
        names: of the C classes; of both classes where C is 1 and the score that of the second.
        title: line above; a second one with the undecided share is added.
        bounds: of probability.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    lines = [title, _summarize(undecided, totals, bounds)]
    if len(shares) == 1 and len(names) == 2:
        return _draw_pair(shares[0], totals[0], thresholds[0], names, lines, bounds)
    if len(shares) <= MOST_CHARTS:
        return _draw_charts(shares, totals, thresholds, undecided, names, lines, bounds)
    return _draw_map(shares, names, lines, bounds)


def _draw_pair(
    shares: np.ndarray,
    totals: np.ndarray,
    threshold: float,
    names: Sequence[str],
    title: Sequence[str],
    bounds: tuple[float, float],
) -> np.ndarray:
    top = _chart_top() + LINE
    panel = Panel(GAP + 48, top, 600, 300)
    chart = Chart((panel.right + 2 * GAP, panel.bottom + 52), title)
    texts = [shorten(f"true {name}: {total:,}", 190, TEXT_SIZE) for name, total in zip(names, totals, strict=True)]
    lines = [("best F1" + (f" {threshold:.4g}" if np.isfinite(threshold) else ": none"), RED), ("0.5", _HALF)]
    chart.legend((panel.left, _chart_top()), [(texts[0], BLUE), (texts[1], ORANGE), *lines])
    _draw_panel(chart, panel, shares, threshold, bounds, _WHOLE)
    chart.text((panel.left, panel.bottom + 28), shorten(f"probability of {names[1]}", 300, TEXT_SIZE))
    chart.text((panel.right, panel.bottom + 28), "share of each true class, square root scale", anchor="ra")
    return np.array(chart.canvas)


def _draw_charts(
    shares: np.ndarray,
    totals: np.ndarray,
    thresholds: np.ndarray,
    undecided: np.ndarray,
    names: Sequence[str],
    title: Sequence[str],
    bounds: tuple[float, float],
) -> np.ndarray:
    columns = min(_COLUMNS, max(2, len(names)))
    width, height = 300, 206
    size = (columns * width + GAP, _chart_top() + LINE + math.ceil(len(names) / columns) * height + GAP + LINE)
    chart = Chart(size, title)
    entries = [("all others", BLUE), ("samples of the class", ORANGE), ("best F1", RED), ("0.5", _HALF)]
    chart.legend((GAP, _chart_top() - 4), entries)
    for index, name in enumerate(names):
        left, top = GAP + index % columns * width, _chart_top() + LINE + index // columns * height
        panel = Panel(left + 44, top + 2 * LINE + 2, width - 68, height - 72)
        chart.text((left + 44, top), shorten(name, width - 68, TEXT_SIZE))
        text = f"{totals[index, 1]:,} samples, {undecided[index, 1]:.1%} undecided" if totals[index, 1] else "no sample"
        chart.text((left + 44, top + 17), text)
        _draw_panel(chart, panel, shares[index], thresholds[index], bounds, _SMALL)
    note = "x: probability of the class; y: share of samples, square root scale"
    chart.text((GAP, size[1] - GAP - 8), note, anchor="lm")
    return np.array(chart.canvas)


def _draw_panel(
    chart: Chart,
    panel: Panel,
    shares: np.ndarray,
    threshold: float,
    bounds: tuple[float, float],
    ticks: dict[float, str],
) -> None:
    chart.shade(panel, *bounds)
    # All panels end at one of a few levels, so that they can be compared; 1e-9 is the rounding of a share.
    largest = float(np.nan_to_num(shares).max())
    most = next((level for level in _LEVELS if level >= largest - 1e-9 and largest > 0), 1.0)
    # Levels below a 25th of the top, a fifth of the height, would stand on each other.
    marks = {math.sqrt(level / most): f"{level:.0%}" for level in _LEVELS if most / 25 <= level <= most}
    chart.axes(panel, ticks, marks)
    for row, colour in zip(shares, (BLUE, ORANGE), strict=True):
        if np.isfinite(row).all():
            chart.steps(panel, np.sqrt(np.clip(row / most, 0, 1)), colour)
    chart.vertical_line(panel, 0.5, _HALF, dashed=True)
    if np.isfinite(threshold):
        chart.vertical_line(panel, float(threshold), RED)


def _draw_map(
    shares: np.ndarray, names: Sequence[str], title: Sequence[str], bounds: tuple[float, float]
) -> np.ndarray:
    # 14 pixels hold a name; with more classes the whole map stays at about 900.
    row = max(1, 14 if len(names) <= 60 else 900 // len(names))
    top, height = _chart_top() + 2 * LINE, row * len(names)
    left = GAP + _NAME_WIDTH + 10
    panels = [Panel(left + index * (_MAP_WIDTH + 30), top, _MAP_WIDTH, height) for index in range(2)]
    chart = Chart((panels[1].right + 90, top + max(height, 150) + 50), title)
    heads = zip(panels, ("all others", "samples of the class"), (BLUE, ORANGE), strict=True)
    for index, (panel, text, colour) in enumerate(heads):
        cells = _share_colours(shares[:, index], colour)
        cells = cells.repeat(row, axis=0).repeat(_MAP_WIDTH // shares.shape[2], axis=1)
        chart.canvas.paste(Image.fromarray(cells), (panel.left, panel.top))
        chart.text((panel.left, panel.top - 6), text, anchor="ls", fill=colour)
        for value, tick in _WHOLE.items():
            chart.text((panel.x(value), panel.bottom + 6), tick, anchor="ma")
            chart.ink.line((panel.x(value), panel.bottom, panel.x(value), panel.bottom + 4), fill=INK)
        for bound in bounds:
            chart.vertical_line(panel, bound, _HALF, dashed=True)
        chart.ink.rectangle((panel.left - 1, panel.top - 1, panel.right, panel.bottom), outline=AXES)
        chart.text(((panel.left + panel.right) / 2, panel.bottom + 24), "probability of the class", anchor="ma")
    _name_rows(chart, names, left - 8, top, row)
    _draw_scale(chart, panels[1].right + 2 * GAP, top)
    return np.array(chart.canvas)


def _name_rows(chart: Chart, names: Sequence[str], right: int, top: int, row: int) -> None:
    """Name the rows; of thin ones only some, each with its number, by which the others can be found."""
    # Round numbers are easier to count between than every 3rd or 7th.
    least = math.ceil(14 / row)
    every = next(step * 10**power for power in range(9) for step in (1, 2, 5) if step * 10**power >= least)
    for index in range(0, len(names), every):
        text = names[index] if every == 1 or names[index] == str(index) else f"{index} {names[index]}"
        middle = top + (index + 0.5) * row
        chart.text((right - 6, middle), shorten(text, _NAME_WIDTH - 10, TEXT_SIZE - 1), anchor="rm", size=TEXT_SIZE - 1)
        chart.ink.line((right - 3, middle, right + 5, middle), fill=INK)


def _draw_scale(chart: Chart, left: float, top: int) -> None:
    for place, level in enumerate((*reversed(_LEVELS), 0.0)):
        for index, colour in enumerate((BLUE, ORANGE)):
            fill = tuple(_share_colours(np.array([[level]]), colour)[0, 0].tolist())
            box = (left + 13 * index, top + LINE * place, left + 13 * index + 12, top + LINE * place + LINE - 1)
            chart.ink.rectangle(box, fill=fill)
        chart.text((left + 32, top + LINE * (place + 0.5)), f"{level:.0%}", anchor="lm")
    chart.ink.rectangle((left, top + 8 * LINE, left + SWATCH, top + 8 * LINE + SWATCH), fill=ABSENT, outline=AXES)
    chart.text((left + SWATCH_INDENT, top + 8 * LINE - 2), "none")


def _share_colours(shares: np.ndarray, full: Colour) -> np.ndarray:
    """Return the colour of each share."""
    # By the square root, so that rare probabilities can be seen.
    levels = np.sqrt(np.clip(np.nan_to_num(shares), 0, 1))[..., None]
    colours = np.array(PAPER) + levels * (np.array(full) - np.array(PAPER))
    return np.where(np.isnan(shares)[..., None], ABSENT, colours).round().astype(np.uint8)


def _summarize(undecided: np.ndarray, totals: np.ndarray, bounds: tuple[float, float]) -> str:
    parts = []
    for index, kind in enumerate(("negatives", "positives")):
        known = totals[:, index] > 0
        if known.any():
            # Weighted by samples, so that the line is the share over all samples and not a mean over classes.
            mean = np.average(undecided[known, index], weights=totals[known, index])
            parts.append(f"{mean:.1%} of {kind}")
    return f"between {bounds[0]:g} and {bounds[1]:g}: {', '.join(parts)}" if parts else "no sample"


def _chart_top() -> int:
    return GAP + 2 * TITLE_LINE + 10
