"""The reliability diagram: accuracy per confidence, and how many predictions have it."""

import numpy as np

from .canvas.chart import DASHES, Chart, Panel
from .canvas.theme import BLUE, CHART_WIDTH, GAP, GREY, ORANGE, PALE_BLUE, TEXT_LINE

_TICKS = {value: f"{value:g}" for value in (0, 0.5, 1)}
_LEFT, _HEIGHT, _LOW = 70, 440, 100


def draw_calibration(shares: np.ndarray, accuracy: np.ndarray, confidence: np.ndarray, title: list[str]) -> np.ndarray:
    """Draw bins of predictions, [B] each, under two lines, as [H, W, 3] uint8 RGB; NaN in an empty bin."""
    chart = Chart(4 * TEXT_LINE + _HEIGHT + _LOW + 5 * GAP, title)
    above = Panel(_LEFT, chart.top + TEXT_LINE + GAP, CHART_WIDTH - _LEFT - 2 * GAP, _HEIGHT)
    below = Panel(above.left, above.bottom + 2 * TEXT_LINE + 2 * GAP, above.width, _LOW)
    filled, most = shares > 0, np.nan_to_num(shares).max() or 1.0
    chart.line_entry((above.left, chart.top), "accuracy", ORANGE, width=220)
    chart.line_entry((above.left + 220, chart.top), "as often right as sure", GREY, DASHES[2], width=400)
    chart.bars(above, np.nan_to_num(accuracy), PALE_BLUE)
    chart.bars(below, np.nan_to_num(shares / most), BLUE)
    chart.axes(above, _TICKS, _TICKS)
    chart.axes(below, {}, {0: "0", 1: f"{most:.0%}"})
    # On the diagonal a model is right as often as it is confident; below it, it is too sure of itself.
    curves = [(np.array([0.0, 1.0]),) * 2, (confidence[filled], accuracy[filled])]
    chart.lines(above, curves, [GREY, ORANGE], dashes=[DASHES[2], ()])
    chart.text((below.left, below.top - 8), "share of predictions", anchor="ls")
    chart.text((below.left + below.width / 2, below.bottom + GAP), "confidence", anchor="ma")
    return np.array(chart.canvas)
