"""Draw precision, recall and F1 of boxes: against each other, and by the score from which on predictions count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .canvas.chart import DASHES, Chart, Panel
from .canvas.palette import class_colours
from .canvas.theme import CHART_WIDTH, GAP, GREY, INK, PALE_BLUE, TEXT_LINE, Colour

MOST_NAMED = 6  # lines that can be told apart
_WORST = 5  # named where there are more
_LEFT, _HIGH, _LOW = 70, 460, 230  # of the panels
_TICKS = {value: f"{value:g}" for value in (0, 0.25, 0.5, 0.75, 1)}
_NAME_WIDTH = 400

Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class NamedCurves:
    """The curves of L classes, from the worst to the best, and that of all boxes together.

    Attributes:
        names: of the classes.
        notes: of the classes, for the legend, such as "AP50 0.71".
        threshold: the scores from which on predictions count, [B], rising from 0.
        precision: [L + 1, B], 0 to 1, of all boxes in the last row; NaN where nothing is predicted.
        recall: [L + 1, B], 0 to 1.
        f1: [L + 1, B], 0 to 1.
        note: of all boxes together.
    """

    names: Sequence[str]
    notes: Sequence[str]
    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    note: str


#   title
#   precision
#   +------------------+
#   |'''--.._          |
#   |        ''.       |
#   |           \      |
#   +------------------+
#    0    recall      1
#   --- name     AP50 0.71   the worst first
def draw_precision_recall(curves: NamedCurves, title: Sequence[str]) -> np.ndarray:
    """Draw for each recall the largest precision that is reached with it or more, as COCO integrates it.

    Args:
        curves: up to 6 classes all by name; of more the 5 worst by name, the others pale.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    chart = Chart(2 * TEXT_LINE + _HIGH + GAP + TEXT_LINE + _legend_height(curves), title)
    panel = Panel(_LEFT, chart.top + TEXT_LINE + GAP, CHART_WIDTH - _LEFT - 2 * GAP, _HIGH)
    of = [_interpolate(*row) for row in zip(curves.recall, curves.precision, strict=True)]
    _draw_panel(chart, panel, "precision", of)
    chart.text((panel.left + panel.width / 2, panel.bottom + TEXT_LINE), "recall", anchor="ma")
    _write_names(chart, panel.bottom + 2 * TEXT_LINE + GAP, curves)
    return np.array(chart.canvas)


def draw_by_confidence(curves: NamedCurves, min_score: float, title: Sequence[str]) -> np.ndarray:
    """Draw F1, precision and recall, one below the other, by the score from which on predictions count.

    Args:
        curves: up to 6 classes all by name; of more the 5 worst by name, the others pale.
        min_score: is marked by a line.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    parts = {"F1": curves.f1, "precision": curves.precision, "recall": curves.recall}
    step = _LOW + 2 * TEXT_LINE + GAP
    chart = Chart(len(parts) * step + 2 * TEXT_LINE + _legend_height(curves), title)
    width = CHART_WIDTH - _LEFT - 2 * GAP
    for index, (name, rows) in enumerate(parts.items()):
        panel = Panel(_LEFT, chart.top + TEXT_LINE + GAP + index * step, width, _LOW)
        known = [np.isfinite(row) for row in rows]
        of = [(curves.threshold[kept], row[kept]) for kept, row in zip(known, rows, strict=True)]
        _draw_panel(chart, panel, name, of, min_score)
    below = panel.bottom + TEXT_LINE + GAP
    chart.text((panel.left + width / 2, below), "score from which on predictions count", anchor="ma")
    _write_names(chart, below + TEXT_LINE + GAP, curves)
    return np.array(chart.canvas)


def _draw_panel(chart: Chart, panel: Panel, name: str, curves: Sequence[Curve], mark: float | None = None) -> None:
    """Draw the curves of the classes from the worst on, and last that of all boxes."""
    chart.axes(panel, _TICKS, {0: "0", 0.5: "0.5", 1: "1"})
    chart.text((panel.left, panel.top - 8), name, anchor="ls")
    *of_classes, of_all = curves
    named = _named(len(of_classes))
    if mark is not None:
        chart.lines(panel, [(np.array([mark, mark]), np.array([0.0, 1.0]))], [GREY], dashes=[DASHES[2]])
    chart.lines(panel, of_classes[named:], [PALE_BLUE] * len(of_classes[named:]), width=3)
    # Of one class the curve is that of all boxes.
    if len(of_classes) != 1:
        chart.lines(panel, [of_all], [INK])
    styles = [_style(index) for index in range(named)]
    chart.lines(panel, of_classes[:named], [one for one, _ in styles], dashes=[dashes for _, dashes in styles])


def _write_names(chart: Chart, top: int, curves: NamedCurves) -> None:
    right, named = CHART_WIDTH - GAP, _named(len(curves.names))
    for index in range(named):
        colour, dashes = _style(index)
        chart.line_entry((GAP, top), curves.names[index], colour, dashes, width=_NAME_WIDTH)
        chart.text((right, top), curves.notes[index], anchor="ra")
        top += TEXT_LINE
    if len(curves.names) != 1:
        chart.line_entry((GAP, top), "all boxes together", INK, width=_NAME_WIDTH)
        chart.text((right, top), curves.note, anchor="ra")
        top += TEXT_LINE
    if others := len(curves.names) - named:
        chart.legend((GAP, top), [(f"the other {others} classes", PALE_BLUE)])


def _named(count: int) -> int:
    return count if count <= MOST_NAMED else _WORST


def _legend_height(curves: NamedCurves) -> int:
    count = len(curves.names)
    return (_named(count) + (count != 1) + (count > MOST_NAMED)) * TEXT_LINE + 2 * GAP


def _style(index: int) -> tuple[Colour, Sequence[int]]:
    red, green, blue = class_colours(MOST_NAMED)[index].tolist()
    return (red, green, blue), DASHES[index % len(DASHES)]


def _interpolate(recall: np.ndarray, precision: np.ndarray) -> Curve:
    """Return the largest precision at each recall or more; thresholds rise along [B]."""
    known = np.isfinite(recall) & np.isfinite(precision)
    if not known.any():
        return np.array([]), np.array([])
    # From the highest threshold on recall rises, and what is reached later counts for all before.
    recall, precision = recall[known][::-1], np.maximum.accumulate(precision[known])[::-1]
    return np.concatenate([[0.0], recall, recall[-1:]]), np.concatenate([precision[:1], precision, [0.0]])
