"""Draw embeddings: samples as points of a plane, in the colours of their true and predicted classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..support.class_names import name_of
from .canvas.captions import shorten
from .canvas.chart import Chart, Panel
from .canvas.palette import pick_class_colours
from .canvas.text import text_length
from .canvas.theme import CHART_WIDTH, GAP, INK, PAPER, TEXT_LINE, TEXT_SIZE

_SIDE = (CHART_WIDTH - 3 * GAP) // 2
_RADIUS = 5
_MARGIN = 0.03  # of a panel, around the outermost points
_COLUMNS = 3  # of names
_MOST_NAMES = 20
_MOST_NUMBERS = 30  # classes whose numbers stand on their points
_LEAST_NUMBERED = 5  # points


#   title
#   true class      predicted class
#   +-----------+   +-----------+
#   |  3 .:     |   |  3 (:)    |    the number of a class where its points are
#   |    7.     |   |    7.     |
#   +-----------+   +-----------+
#   # 3 name    # 7 name    +3 more
#   O 5 of 64 wrong
def draw_embedding_map(
    points: np.ndarray,
    labels: np.ndarray | None,
    predictions: np.ndarray | None,
    names: Sequence[str] | None,
    title: Sequence[str],
) -> np.ndarray:
    """Draw the points twice, in the colours of the true and of the predicted classes; once, where one is unknown.

    Where both are known, a wrong prediction has a black ring. The classes are named in their order, of more than 20
    those with the most points. The number of a class stands in the middle of its points. Both axes have one scale.

    Args:
        points: [n, 2], finite, at least one.
        labels: [n], true classes; None: not known.
        predictions: [n], predicted classes; None: not known.
        names: one per class; None: classes are shown by number.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    known = [("true class", labels), ("predicted class", predictions)]
    shown = {name: classes.astype(np.int64) for name, classes in known if classes is not None}
    wrong = None if labels is None or predictions is None else labels != predictions
    counts = _count_classes(shown)
    named = _most_frequent(counts)
    rows = math.ceil((len(named) + (len(counts) > len(named))) / _COLUMNS) + (wrong is not None)
    side = _SIDE if len(shown) > 1 else CHART_WIDTH - 2 * GAP
    chart = Chart(TEXT_LINE + side + GAP + rows * TEXT_LINE + GAP, title)
    for index, (name, classes) in enumerate((shown or {"samples": np.full(len(points), -1)}).items()):
        panel = Panel(GAP + index * (side + GAP), chart.top + TEXT_LINE, side, side)
        chart.text((panel.left, panel.top - 8), name, anchor="ls")
        chart.frame(panel)
        _draw_points(chart, panel, points, classes, wrong if name == "predicted class" else None)
    _write_names(chart, panel.bottom + GAP, named, len(counts) - len(named), names)
    if wrong is not None:
        _draw_ring(chart, GAP + TEXT_SIZE / 2, chart.canvas.height - GAP - TEXT_LINE / 2)
        place = (GAP + TEXT_SIZE + 8, chart.canvas.height - GAP - TEXT_LINE / 2)
        chart.text(place, f"{int(wrong.sum())} of {len(wrong)} wrong", anchor="lm")
    return np.array(chart.canvas)


def _draw_points(chart: Chart, panel: Panel, points: np.ndarray, classes: np.ndarray, wrong: np.ndarray | None) -> None:
    places = _scale_points(points)
    colours = pick_class_colours(classes)
    is_wrong = np.zeros(len(places), dtype=bool) if wrong is None else wrong
    # Right ones first, so that the wrong ones are on top and no ring is hidden.
    for index in np.argsort(is_wrong, kind="stable"):
        x, y = panel.x(places[index, 0]), panel.y(places[index, 1])
        if is_wrong[index]:
            _draw_ring(chart, x, y)
        chart.ink.ellipse((x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS), fill=colours[index])
    found, counts = np.unique(classes[classes >= 0], return_counts=True)
    if len(found) <= _MOST_NUMBERS:
        # A number hides points below it: of a few that would be all.
        for number in found[counts >= _LEAST_NUMBERED].tolist():
            _write_number(chart, panel, np.median(places[classes == number], axis=0), str(number))


def _draw_ring(chart: Chart, x: float, y: float) -> None:
    # White around black around the point: a ring is seen among points of any colour.
    for radius, colour in ((_RADIUS + 7, PAPER), (_RADIUS + 6, INK), (_RADIUS + 1, PAPER)):
        chart.ink.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _write_number(chart: Chart, panel: Panel, place: np.ndarray, text: str) -> None:
    # In a box of its own, as text between points cannot be read.
    x, y = panel.x(place[0]), panel.y(place[1])
    half = text_length(text, TEXT_SIZE) / 2 + 4
    box = (x - half, y - TEXT_SIZE / 2 - 2, x + half, y + TEXT_SIZE / 2 + 2)
    chart.ink.rectangle(box, fill=PAPER, outline=INK)
    chart.text((x, y), text, anchor="mm")


def _scale_points(points: np.ndarray) -> np.ndarray:
    """Return the points, from 0 to 1 on both axes of one scale."""
    # The larger span scales both axes: distances mean nothing in a map that is stretched.
    low, high = points.min(axis=0), points.max(axis=0)
    span = (high - low).max() or 1.0
    places: np.ndarray = 0.5 + (points - (low + high) / 2) / span * (1 - 2 * _MARGIN)
    return places


def _count_classes(shown: Mapping[str, np.ndarray]) -> dict[int, int]:
    if not shown:
        return {}
    found, counts = np.unique(np.concatenate(list(shown.values())), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _most_frequent(counts: Mapping[int, int]) -> list[int]:
    # The classes with most points are named, in the order of their numbers, which stays the same over epochs.
    return sorted(sorted(counts, key=lambda number: -counts[number])[:_MOST_NAMES])


def _write_names(chart: Chart, top: int, numbers: Sequence[int], more: int, names: Sequence[str] | None) -> None:
    width = (CHART_WIDTH - 2 * GAP) // _COLUMNS
    for index, number in enumerate(numbers):
        left, above = GAP + index % _COLUMNS * width, top + index // _COLUMNS * TEXT_LINE
        name = name_of(number, names)
        text = name if name == str(number) or number < 0 else f"{number} {name}"
        chart.rectangle(
            left, above + 1, left + TEXT_SIZE, above + 1 + TEXT_SIZE, pick_class_colours(np.array([number]))[0]
        )
        chart.text((left + TEXT_SIZE + 8, above), shorten(text, width - TEXT_SIZE - 20, TEXT_SIZE))
    if more:
        index = len(numbers)
        chart.text((GAP + index % _COLUMNS * width, top + index // _COLUMNS * TEXT_LINE), f"+{more} more")
