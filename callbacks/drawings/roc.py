"""Draw the ROC curves of all classes, once whole and once their upper left corner, with the worst ones by name."""

from collections.abc import Sequence

import numpy as np

from .canvas.chart import DASHES, Chart, Panel
from .canvas.palette import class_colours
from .canvas.theme import AXES, CHART_WIDTH, GAP, GREY, INK, TEXT_LINE, Colour

OTHERS: Colour = (205, 210, 218)  # the band of the classes that are not named

_MOST_NAMED = 6  # lines that can be told apart
_WORST = 5  # named where there are more
_LEFTS, _WIDTH, _HEIGHT = (60, 418), 250, 320  # of the two charts
_CORNERS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_LEAST_BOUND = 5e-5  # what is smaller is not seen in four digits

_Curve = tuple[np.ndarray, np.ndarray]


#   title
#   mean AUC
#   true positive rate    upper left corner
#   +--------------+      +--------------+
#   |  .--'''      |      |     .--''    |
#   | /     .      |      |   .'         |
#   |/   .         |      |  /           |
#   +--------------+      +--------------+
#   false positive rate
#   --- name    0.8123     the worst first
#   - - name    0.9012
#   ### the other 15 classes
def draw_roc(
    false: np.ndarray, true: np.ndarray, areas: np.ndarray, bounds: np.ndarray, names: Sequence[str], title: str
) -> np.ndarray:
    """Draw the curves of C classes: up to 6 all by name, of more the 5 worst, the range of all others, and the mean.

    Args:
        false: [C, P], false positive rates, falling from 1 to 0; NaN where a class has no negatives.
        true: [C, P], true positive rates, falling from 1 to 0; NaN where a class has no positives.
        areas: [C], area under each curve; NaN where there is none.
        bounds: [C], how far each may be off; shown where four digits show it.
        names: of the C classes.
        title: line above; a second one with the mean area is added.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    # From the smallest area to the largest: the first ones are the worst.
    known = [int(index) for index in np.argsort(areas, kind="stable") if np.isfinite(areas[index])]
    named = known if len(names) <= _MOST_NAMED else known[:_WORST]
    curves = {index: _rising(false[index], true[index]) for index in known}
    mean = [_mean_curve(list(curves.values()))] if len(known) > 1 else []
    entries = len(named) + len(mean) + (len(known) > len(named)) + (len(known) < len(names))
    height = TEXT_LINE + _HEIGHT + 2 * TEXT_LINE + 20 + entries * TEXT_LINE + GAP
    chart = Chart(height, [title, _summarize(areas, bounds, known)])
    # While all are named, a class keeps its colour over epochs; of the worst the colour is the rank.
    order = [place if len(names) > _MOST_NAMED else index for place, index in enumerate(named)]
    styles = [(_colour(number), DASHES[number % len(DASHES)]) for number in order]
    others = [curves[index] for index in known[len(named) :]]
    zoom = _corner([curves[index] for index in named])
    for left, (x, y) in zip(_LEFTS, (((0.0, 1.0), (0.0, 1.0)), ((0.0, zoom), (1.0 - zoom, 1.0))), strict=True):
        panel = Panel(left, chart.top + TEXT_LINE, _WIDTH, _HEIGHT)
        _draw_curves(chart, panel, (x, y), [curves[index] for index in named], styles, others, mean)
    _label(chart, panel)
    _write_names(chart, panel.bottom + 2 * TEXT_LINE + 14, areas, bounds, names, named, known, styles)
    return np.array(chart.canvas)


def _draw_curves(
    chart: Chart,
    panel: Panel,
    ranges: tuple[tuple[float, float], tuple[float, float]],
    curves: Sequence[_Curve],
    styles: Sequence[tuple[Colour, Sequence[int]]],
    others: Sequence[_Curve],
    mean: Sequence[_Curve],
) -> None:
    (low, high), (bottom, top) = ranges
    ticks = [{place: f"{start + place * (end - start):.3g}" for place in (0.0, 0.5, 1.0)} for start, end in ranges]
    chart.axes(panel, *ticks)
    x = np.linspace(low, high, panel.width + 1)

    def scaled(curve: _Curve) -> _Curve:
        cut = _cut(curve, high, bottom)
        return (cut[0] - low) / (high - low), (cut[1] - bottom) / (top - bottom)

    if others:
        heights = np.stack([np.interp(x, *curve) for curve in others])
        ends = ((edge - bottom) / (top - bottom) for edge in (heights.min(axis=0), heights.max(axis=0)))
        _draw_band(chart, panel, *(edge.clip(0, 1) for edge in ends))
        chart.frame(panel)
    # The diagonal is chance.
    chart.lines(panel, [scaled((np.array([0.0, bottom, 1.0]),) * 2)], [AXES], width=3, dashes=[DASHES[2]])
    # Drawn before the named ones, which it would hide where all are alike.
    chart.lines(panel, [scaled(curve) for curve in mean], [INK] * len(mean))
    chart.lines(
        panel,
        [scaled(curve) for curve in curves],
        [colour for colour, _ in styles],
        dashes=[dashes for _, dashes in styles],
    )


def _cut(curve: _Curve, high: float, bottom: float) -> _Curve:
    """Return the part of a rising curve up to the x ``high``, and from the y ``bottom`` on."""
    x, y = curve
    inside = (x <= high) & (y >= bottom)
    start, end = float(np.interp(bottom, y, x)), float(np.interp(high, x, y))
    if start > high or end < bottom:
        return np.array([]), np.array([])
    return np.concatenate([[start], x[inside], [high]]), np.concatenate([[bottom], y[inside], [end]])


def _draw_band(chart: Chart, panel: Panel, low: np.ndarray, high: np.ndarray) -> None:
    places = [(panel.left + index, panel.y(value)) for index, value in enumerate(high)]
    places += [(panel.left + index, panel.y(value)) for index, value in reversed(list(enumerate(low)))]
    chart.ink.polygon(places, fill=OTHERS, outline=OTHERS, width=3)


def _label(chart: Chart, last: Panel) -> None:
    chart.text((_LEFTS[0], last.top - 8), "true positive rate", anchor="ls")
    chart.text((_LEFTS[1], last.top - 8), "upper left corner", anchor="ls")
    chart.text((CHART_WIDTH / 2, last.bottom + TEXT_LINE + 4), "false positive rate", anchor="ma")


def _write_names(
    chart: Chart,
    top: int,
    areas: np.ndarray,
    bounds: np.ndarray,
    names: Sequence[str],
    named: Sequence[int],
    known: Sequence[int],
    styles: Sequence[tuple[Colour, Sequence[int]]],
) -> None:
    """Write the legend, sorted by area."""
    right, room = CHART_WIDTH - GAP, 430
    for index, (colour, dashes) in zip(named, styles, strict=True):
        chart.line_entry((GAP, top), names[index], colour, dashes, width=room)
        chart.text((right, top), _area(areas[index], bounds[index]), anchor="ra")
        top += TEXT_LINE
    if len(known) > 1:
        chart.line_entry((GAP, top), f"mean of {len(known)} classes", INK, width=room)
        chart.text((right, top), f"AUC {np.mean(areas[known]):.4f}", anchor="ra")
        top += TEXT_LINE
    if others := known[len(named) :]:
        chart.legend((GAP, top), [(f"the other {len(others)}", OTHERS)])
        chart.text((right, top), f"AUC {areas[others[0]]:.4f} to {areas[others[-1]]:.4f}", anchor="ra")
        top += TEXT_LINE
    if len(known) < len(names):
        absent = f"{len(names) - len(known)} of {len(names)} without positives or negatives"
        chart.text((GAP, top), absent, fill=GREY)


def _area(area: float, bound: float) -> str:
    return f"AUC {area:.4f}" + (f" ± {bound:.1g}" if bound >= _LEAST_BOUND else "")


def _summarize(areas: np.ndarray, bounds: np.ndarray, known: Sequence[int]) -> str:
    if not known:
        return "no class has both positives and negatives"
    mean, each = ("AUC", "") if len(areas) == 1 else ("mean AUC", "each ")
    text, bound = f"{mean} {np.mean(areas[known]):.4f}", float(np.max(bounds[known]))
    return f"{text}, {each}within ±{bound:.1g}" if bound >= _LEAST_BOUND else text


def _colour(number: int) -> Colour:
    red, green, blue = class_colours(_MOST_NAMED)[number].tolist()
    return red, green, blue


def _rising(false: np.ndarray, true: np.ndarray) -> _Curve:
    # Curves fall from 1 to 0, and interp needs rising x. They begin at no prediction, also where that has no point.
    return np.concatenate([[0.0], false[::-1]]), np.concatenate([[0.0], true[::-1]])


def _mean_curve(curves: Sequence[_Curve]) -> _Curve:
    """Return the mean height of curves over x; where a curve rises upright, the upper end counts."""
    # Finer near 0, which the corner enlarges.
    x = np.unique(np.concatenate([np.linspace(0, corner, _WIDTH + 1) for corner in (*_CORNERS, 1.0)]))
    heights = [np.interp(x, *curve) for curve in curves]
    return np.concatenate([[0.0], x]), np.concatenate([[0.0], np.mean(heights, axis=0)])


def _corner(curves: Sequence[_Curve]) -> float:
    """Return the side of the corner in which each curve comes nearest to the point (0, 1)."""
    elbows = [np.maximum(false, 1 - true).min() for false, true in curves]
    return next((corner for corner in _CORNERS if corner >= 1.5 * max(elbows, default=1.0)), _CORNERS[-1])
