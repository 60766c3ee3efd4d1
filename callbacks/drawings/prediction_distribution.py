"""Draw predicted probabilities by true class: a filled histogram per class, a map for many classes."""

import math
from collections.abc import Sequence

import numpy as np

from .canvas.captions import shorten
from .canvas.chart import Chart, Panel
from .canvas.text import text_length
from .canvas.theme import (
    ABSENT,
    AXES,
    BLUE,
    CHART_WIDTH,
    GAP,
    INK,
    ORANGE,
    PAPER,
    SHADE,
    STROKE,
    TEXT_LINE,
    TEXT_SIZE,
    Colour,
)

MOST_CHARTS = 24  # rows that hold a name each; more classes are a map

_NAME_WIDTH = 160
_MAP_WIDTH = 240
_MAP_HEIGHT = 880
# Shares at which the bars may end, and of the scale of the map.
_LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
_TICKS = {0.0: "0", 0.25: "", 0.5: "0.5", 0.75: "", 1.0: "1"}


# Up to MOST_CHARTS                            more
#
#   title                                        title
#   # of the class  # all others  | best F1      # worst first
#           +------------------+                      all others   of the class
#   name    |          _  _-## |  upwards, true       +-------+    +-------+
#   1,234   |##-_--            |  downwards, others  name |.:::.  |    |   .::.|
#           +------------------+                      +-------+    +-------+
#            0    probability  1                       0     1      0     1
def draw_distribution(
    shares: np.ndarray,
    totals: np.ndarray,
    thresholds: np.ndarray,
    undecided: np.ndarray,
    names: Sequence[str],
    title: str,
    *,
    bounds: tuple[float, float],
    unit: str = "samples",
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
        unit: what is counted: ``samples`` or ``pixels``.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    lines = [title, _summarize(undecided, totals, bounds) or f"no {unit[:-1]}"]
    if len(shares) > MOST_CHARTS:
        return _draw_map(shares, names, lines, bounds, unit)
    if len(shares) == 1 and len(names) == 2:
        texts = [f"true {name}: {total:,}" for name, total in zip(names, totals[0], strict=True)]
        return _draw_rows(shares, thresholds, [()], lines, bounds, (texts[1], texts[0]), f"probability of {names[1]}")
    captions = [(name, f"{total:,}") for name, total in zip(names, totals[:, 1], strict=True)]
    kinds = (f"{unit} of the class", "all others")
    return _draw_rows(shares, thresholds, captions, lines, bounds, kinds, "probability of the class")


def _draw_rows(
    shares: np.ndarray,
    thresholds: np.ndarray,
    captions: Sequence[Sequence[str]],
    title: Sequence[str],
    bounds: tuple[float, float],
    kinds: tuple[str, str],
    below: str,
) -> np.ndarray:
    """Draw one row per class: upwards the samples of the class, downwards all others."""
    height = _row_height(len(shares))
    chart = Chart(3 * TEXT_LINE + len(shares) * height + 3 * TEXT_LINE + GAP, title)
    _write_legend(chart, kinds)
    left = GAP + (_NAME_WIDTH if captions[0] else 4)
    whole = Panel(left, chart.top + 3 * TEXT_LINE - 12, CHART_WIDTH - GAP - 8 - left, len(shares) * height)
    chart.rectangle(whole.x(bounds[0]), whole.top, whole.x(bounds[1]), whole.bottom, SHADE)
    chart.axes(whole, _TICKS, {})
    # In low rows every two bars are one, which is higher.
    bars = shares if len(shares) == 1 else shares.reshape(*shares.shape[:2], -1, 2).sum(axis=3)
    ends = _top_level(bars[:, 0]), _top_level(bars[:, 1])
    for index, caption in enumerate(captions):
        row = Panel(left, whole.top + index * height, whole.width, height)
        _draw_row(chart, row, bars[index] / np.array(ends)[:, None], float(thresholds[index]))
        _write_caption(chart, row, caption)
    chart.text(
        (left + whole.width / 2, whole.bottom + TEXT_LINE + 4), shorten(below, whole.width, TEXT_SIZE), anchor="ma"
    )
    note = f"square root of shares: up to {ends[1]:.0%} upwards, {ends[0]:.0%} downwards"
    chart.text((CHART_WIDTH / 2, whole.bottom + 2 * TEXT_LINE + 4), note, anchor="ma")
    return np.array(chart.canvas)


def _top_level(shares: np.ndarray) -> float:
    """Return the share at which bars end."""
    # One of a few levels for all rows, so that they can be compared; 1e-9 is the rounding of a share.
    largest = float(np.nan_to_num(shares).max())
    return next((level for level in _LEVELS if level >= largest - 1e-9 and largest > 0), 1.0)


def _row_height(count: int) -> int:
    return next((height for most, height in ((1, 300), (2, 150), (5, 110), (10, 72), (16, 50)) if count <= most), 40)


def _draw_row(chart: Chart, row: Panel, shares: np.ndarray, threshold: float) -> None:
    # At the borders of rows, and for the line between both, some pixels stay free.
    half = row.height // 2 - 3
    above = Panel(row.left, row.top + 2, row.width, half)
    below = Panel(row.left, above.bottom + 2, row.width, half)
    for panel, heights, colour in ((above, shares[1], ORANGE), (below, shares[0], BLUE)):
        if np.isfinite(heights).all():
            chart.bars(panel, np.sqrt(heights.clip(0, 1)), colour, down=panel is below)
    chart.rectangle(row.left, above.bottom, row.right, below.top, AXES)
    if np.isfinite(threshold):
        _mark(chart, row.x(threshold), row.top + 2, row.bottom - 2)


def _mark(chart: Chart, x: float, top: int, bottom: int) -> None:
    # White beside black, so that it is seen on bars of both colours.
    chart.rectangle(x - STROKE, top, x + STROKE, bottom, PAPER)
    chart.rectangle(x - STROKE // 2, top, x + STROKE // 2 + 1, bottom, INK)


def _write_caption(chart: Chart, row: Panel, lines: Sequence[str]) -> None:
    # The name alone, where a second line has no room.
    shown = lines if row.height >= 2 * TEXT_LINE else lines[:1]
    middle = row.top + row.height / 2 - (len(shown) - 1) * TEXT_LINE / 2
    for index, line in enumerate(shown):
        text = shorten(line, _NAME_WIDTH - 12, TEXT_SIZE)
        chart.text((row.left - 10, middle + index * TEXT_LINE), text, anchor="rm")


def _write_legend(chart: Chart, kinds: tuple[str, str]) -> None:
    room = (CHART_WIDTH - 2 * GAP) // 2 - TEXT_SIZE - 32
    texts = [shorten(kind, room, TEXT_SIZE) for kind in kinds]
    chart.legend((GAP, chart.top - 6), [(f"{texts[0]}", ORANGE), (f"{texts[1]}", BLUE)])
    top = chart.top - 6 + TEXT_LINE
    _mark(chart, GAP + TEXT_SIZE / 2, top + 1, top + 1 + TEXT_SIZE)
    chart.text((GAP + TEXT_SIZE + 8, top), "threshold of the best F1")
    left = GAP + TEXT_SIZE + 8 + text_length("threshold of the best F1", TEXT_SIZE) + 24
    chart.legend((left, top), [("undecided", SHADE)])


def _draw_map(
    shares: np.ndarray, names: Sequence[str], title: Sequence[str], bounds: tuple[float, float], unit: str
) -> np.ndarray:
    """Draw one row per class, the one with the lowest probabilities of its own samples first."""
    row = max(1, min(TEXT_LINE, _MAP_HEIGHT // len(names)))
    height = row * len(names)
    chart = Chart(2 * TEXT_LINE + height + 5 * TEXT_LINE + GAP, title)
    top, left = chart.top + 2 * TEXT_LINE - 12, GAP + _NAME_WIDTH
    panels = [Panel(left + index * (_MAP_WIDTH + 28), top, _MAP_WIDTH, height) for index in range(2)]
    order = _worst_first(shares[:, 1])
    chart.text((GAP, chart.top - 6), "rows: classes, the worst first")
    for panel, text, colour, kind in zip(panels, ("all others", "of the class"), (BLUE, ORANGE), (0, 1), strict=True):
        cells = _share_colours(shares[order, kind], colour).repeat(row, axis=0)
        # By their middles, so that a width that is no multiple of the bins has neither gap nor rest.
        places = ((np.arange(panel.width) + 0.5) * shares.shape[2] / panel.width).astype(np.int64)
        chart.paste(cells[:, places], panel.left, panel.top)
        chart.text((panel.left, panel.top - 6), text, anchor="ls", fill=colour)
        for value, tick in _TICKS.items():
            chart.text((panel.x(value), panel.bottom + 6), tick, anchor="ma")
        for bound in bounds:
            chart.lines(panel, [(np.array([bound, bound]), np.array([0.0, 1.0]))], [AXES], width=3, dashes=[(9, 11)])
        chart.frame(panel)
    chart.text((CHART_WIDTH / 2, panels[0].bottom + TEXT_LINE + 4), "probability of the class", anchor="ma")
    _name_rows(chart, [names[index] for index in order], left - 8, top, row)
    _draw_scale(chart, panels[0].bottom + 2 * TEXT_LINE + 14, unit)
    return np.array(chart.canvas)


def _worst_first(shares: np.ndarray) -> list[int]:
    """Return the order of classes by the mean probability of their own samples; those without samples come last."""
    middles = (np.arange(shares.shape[1]) + 0.5) / shares.shape[1]
    return [int(index) for index in np.argsort(shares @ middles, kind="stable")]


def _name_rows(chart: Chart, names: Sequence[str], right: int, top: int, row: int) -> None:
    for index in range(0, len(names), math.ceil((TEXT_LINE - 2) / row)):
        middle = top + (index + 0.5) * row
        text = shorten(names[index], _NAME_WIDTH - 24, TEXT_SIZE)
        # Each at its row, from the first one on, which is the worst.
        chart.text((right - 12, max(middle, top + TEXT_SIZE / 2)), text, anchor="rm")
        chart.rectangle(right - 6, middle - 1, right + 4, middle + 1, INK)


def _draw_scale(chart: Chart, top: int, unit: str) -> None:
    width = (CHART_WIDTH - 2 * GAP) // (len(_LEVELS) + 2)
    for place, level in enumerate((math.nan, 0.0, *_LEVELS)):
        left = GAP + place * width
        for index, colour in enumerate((BLUE, ORANGE)):
            red, green, blue = _share_colours(np.array([[level]]), colour)[0, 0].tolist()
            box = (left, top + index * TEXT_SIZE // 2, left + width - 8, top + (index + 1) * TEXT_SIZE // 2)
            chart.rectangle(*box, (red, green, blue))
        chart.text(
            (left + (width - 8) / 2, top + TEXT_LINE), "none" if math.isnan(level) else f"{level:.0%}", anchor="ma"
        )
    chart.text((CHART_WIDTH / 2, top + 2 * TEXT_LINE), f"share of {unit}", anchor="ma")


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
    return f"{bounds[0]:g} to {bounds[1]:g}: {', '.join(parts)}" if parts else ""
