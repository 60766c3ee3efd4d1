"""Draw embeddings: samples as points of a plane, in the colours of their true and predicted classes."""

from collections.abc import Sequence

import numpy as np

from ..support.class_names import name_of
from .canvas.chart import Chart, Panel
from .canvas.grid import shorten
from .canvas.palette import class_colours
from .canvas.theme import AXES, GAP, GREY, INK, LINE, RED, SWATCH, SWATCH_INDENT, TEXT_SIZE, TITLE_LINE, Colour

_SIDE = 420
_RADIUS = 3
_MARGIN = 0.03  # of a panel, around the outermost points
_NAMES_WIDTH = 180
_MOST_NAMES = 20


#   title
#   true class      predicted class
#   +-----------+   +-----------+   # name
#   |  .  .:    |   |  .  (:)   |   # name
#   |    ..     |   |    ..     |   +3 more
#   +-----------+   +-----------+   O 5 of 64 wrong
def draw_embedding_map(
    points: np.ndarray,
    labels: np.ndarray | None,
    predictions: np.ndarray | None,
    names: Sequence[str] | None,
    title: Sequence[str],
) -> np.ndarray:
    """Draw the points twice, in the colours of the true and of the predicted classes; once, where one is unknown.

    Where both are known, a wrong prediction has a red ring. The classes are named in their order,
    of more than 20 those with the most points. Both axes have one scale.

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
    shown = [(name, classes) for name, classes in known if classes is not None] or [("samples", np.zeros(len(points)))]
    top = GAP + len(title) * TITLE_LINE + LINE + 4
    panels = [Panel(GAP + index * (_SIDE + GAP), top, _SIDE, _SIDE) for index in range(len(shown))]
    right = panels[-1].right + GAP
    has_names = labels is not None or predictions is not None
    chart = Chart((right + (_NAMES_WIDTH + GAP if has_names else 0), top + _SIDE + GAP), title)
    wrong = None if labels is None or predictions is None else labels != predictions
    for panel, (name, classes) in zip(panels, shown, strict=True):
        chart.text((panel.left, panel.top - 4), name, anchor="ls")
        chart.ink.rectangle((panel.left, panel.top, panel.right, panel.bottom), outline=AXES)
        _draw_points(chart, panel, points, classes.astype(np.int64), wrong if name == "predicted class" else None)
    if has_names:
        _write_names(chart, (right, top), np.concatenate([part for _, part in shown]).astype(np.int64), names)
        if wrong is not None and wrong.any():
            chart.ink.ellipse((right, top + _SIDE - 13, right + 9, top + _SIDE - 4), outline=RED, width=2)
            chart.text((right + SWATCH_INDENT, top + _SIDE - 16), f"{int(wrong.sum())} of {len(wrong)} wrong")
    return np.array(chart.canvas)


def _draw_points(chart: Chart, panel: Panel, points: np.ndarray, classes: np.ndarray, wrong: np.ndarray | None) -> None:
    places = _scale_points(points)
    colours = _pick_colours(classes)
    is_wrong = np.zeros(len(places), dtype=bool) if wrong is None else wrong
    # Right ones first, so that the wrong ones are on top and no ring is hidden.
    for index in np.argsort(is_wrong, kind="stable"):
        x, y = panel.x(places[index, 0]), panel.y(places[index, 1])
        box = (x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS)
        chart.ink.ellipse(box, fill=colours[index])
        if is_wrong[index]:
            chart.ink.ellipse((box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2), outline=RED, width=2)


def _scale_points(points: np.ndarray) -> np.ndarray:
    """Return the points, from 0 to 1 on both axes of one scale."""
    # The larger span scales both axes: distances mean nothing in a map that is stretched.
    low, high = points.min(axis=0), points.max(axis=0)
    span = (high - low).max() or 1.0
    places: np.ndarray = 0.5 + (points - (low + high) / 2) / span * (1 - 2 * _MARGIN)
    return places


def _write_names(chart: Chart, corner: tuple[int, int], classes: np.ndarray, names: Sequence[str] | None) -> None:
    (left, top), (found, counts) = corner, np.unique(classes, return_counts=True)
    # The classes with most points are named, in the order of their numbers, which stays the same over epochs.
    most = found[np.argsort(-counts, kind="stable")][:_MOST_NAMES]
    for row, number in enumerate(sorted(most.tolist())):
        above, colour = top + row * LINE, _pick_colours(np.array([number]))[0]
        chart.ink.rectangle((left, above + 2, left + SWATCH, above + 2 + SWATCH), fill=colour)
        text = shorten(name_of(number, names), _NAMES_WIDTH - SWATCH_INDENT, TEXT_SIZE)
        chart.text((left + SWATCH_INDENT, above), text)
    if len(found) > _MOST_NAMES:
        chart.text((left, top + _MOST_NAMES * LINE), f"+{len(found) - _MOST_NAMES} more", fill=INK)


def _pick_colours(classes: np.ndarray) -> list[Colour]:
    # A class that is not known is below 0 and grey.
    palette = class_colours(max(1, int(classes.max(initial=0)) + 1))
    grey = np.array(GREY, dtype=np.uint8)
    rows = [palette[number] if number >= 0 else grey for number in classes.tolist()]
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]
