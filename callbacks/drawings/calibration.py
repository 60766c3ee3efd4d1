"""The reliability diagram: accuracy per confidence, and how many predictions have it."""

import numpy as np

from .canvas.chart import Chart, Panel
from .canvas.theme import AXES, BLUE, GAP, LINE, ORANGE, PALE_BLUE, TITLE_LINE

_TICKS = {value: f"{value:g}" for value in (0, 0.2, 0.4, 0.6, 0.8, 1)}


def draw_calibration(shares: np.ndarray, accuracy: np.ndarray, confidence: np.ndarray, title: list[str]) -> np.ndarray:
    """Draw bins of predictions, [B] each, under two lines, as [H, W, 3] uint8 RGB; NaN in an empty bin."""
    above = Panel(GAP + 48, GAP + 2 * TITLE_LINE + LINE + 6, 400, 400)
    below = Panel(above.left, above.bottom + 2 * LINE + 12, above.width, 90)
    chart = Chart((above.right + 24, below.bottom + 50), title)
    filled, most = shares > 0, np.nan_to_num(shares).max() or 1.0
    chart.axes(above, _TICKS, _TICKS)
    chart.axes(below, _TICKS, {0: "0", 1: f"{most:.0%}"})
    chart.steps(above, np.nan_to_num(accuracy), BLUE)
    chart.steps(below, np.nan_to_num(shares / most), PALE_BLUE)
    # On the diagonal a model is right as often as it is confident; below it, it is too sure of itself.
    chart.lines(above, [(np.array([0.0, 1.0]),) * 2, (confidence[filled], accuracy[filled])], [AXES, ORANGE], width=2)
    chart.text((above.left, above.top - 4), "accuracy", anchor="ls")
    chart.text((below.left, below.top - 4), "share of predictions", anchor="ls")
    chart.text((below.left + below.width / 2, below.bottom + 24), "confidence", anchor="ma")
    return np.array(chart.canvas)
