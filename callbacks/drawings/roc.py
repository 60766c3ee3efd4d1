"""Draw the ROC curves of all classes in one chart."""

from collections.abc import Sequence

import numpy as np

from .canvas.chart import Chart, Panel
from .canvas.grid import shorten
from .canvas.theme import (
    AXES,
    BLUE,
    GAP,
    GREEN,
    GREY,
    INK,
    LINE,
    ORANGE,
    PALE_BLUE,
    RED,
    SWATCH,
    TEXT_SIZE,
    TITLE_LINE,
    Colour,
)

_COLOURS: tuple[Colour, ...] = (
    BLUE,
    ORANGE,
    GREEN,
    RED,
    (130, 80, 180),
    (130, 85, 60),
    (215, 95, 180),
    (150, 150, 30),
    (20, 165, 180),
    (90, 90, 90),
)
_MOST_WORST = 5
_SIDE = 400  # of the chart, in pixels
_NAMES_WIDTH = 300
_TICKS = {value: f"{value:g}" for value in (0, 0.2, 0.4, 0.6, 0.8, 1)}


#   title
#   mean AUC
#   true positive rate
#   +--------------+   AUC, the 5 worst of 20
#   |  .--'''      |   # name
#   | /     .      |     0.8123 ± 0.002
#   |/   .         |   # mean over classes
#   | .            |     0.9234
#   +--------------+
#   false positive rate
def draw_roc(
    false: np.ndarray, true: np.ndarray, areas: np.ndarray, bounds: np.ndarray, names: Sequence[str], title: str
) -> np.ndarray:
    """Draw the curves of C classes: up to 10 all by name, of more the 5 worst by name, and the mean.

    Args:
        false: [C, P], false positive rates, falling from 1 to 0; NaN where a class has no negatives.
        true: [C, P], true positive rates, falling from 1 to 0; NaN where a class has no positives.
        areas: [C], area under each curve; NaN where there is none.
        bounds: [C], how far each may be off.
        names: of the C classes.
        title: line above; a second one with the mean area is added.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    # From the smallest area to the largest: the first ones are the worst.
    known = [int(index) for index in np.argsort(areas, kind="stable") if np.isfinite(areas[index])]
    top = GAP + 2 * TITLE_LINE + LINE + 6
    panel = Panel(GAP + 48, top, _SIDE, _SIDE)
    chart = Chart((panel.right + 24 + _NAMES_WIDTH, panel.bottom + 50), [title, _summarize(areas, bounds, known)])
    chart.axes(panel, _TICKS, _TICKS)
    chart.text(((panel.left + panel.right) / 2, panel.bottom + 24), "false positive rate", anchor="ma")
    chart.text((panel.left, panel.top - 4), "true positive rate", anchor="ls")
    # The diagonal is chance.
    chart.lines(panel, [(np.array([0.0, 1.0]),) * 2], [AXES])
    # More curves than colours: only the worst are named, as nobody could distinguish the others anyway.
    many = len(names) > len(_COLOURS)
    curves = {index: (false[index], true[index]) for index in known}
    named = known[:_MOST_WORST] if many else sorted(known)
    if many:
        chart.lines(panel, list(curves.values()), [PALE_BLUE] * len(known))
    # While all are named, a class keeps its colour over epochs; of the worst the colour is the rank.
    colours = {index: _COLOURS[place if many else index] for place, index in enumerate(named)}
    entries = [(f"{areas[index]:.4f} ± {bounds[index]:.2g}", names[index], colours[index]) for index in named]
    if len(known) > 1:  # drawn before the named ones, which it would hide where all are alike
        chart.lines(panel, [_mean_curve(list(curves.values()))], [INK], width=2)
        entries.append((f"{np.mean(areas[known]):.4f}", "mean over classes", INK))
    chart.lines(panel, [curves[index] for index in named], [colours[index] for index in named])
    _write_names(chart, panel, entries, f"the {len(named)} worst of {len(names)}" if many else "")
    if len(known) < len(names):
        chart.text((panel.right + 24, panel.bottom - 14), _count_absent(names, known), fill=GREY)
    return np.array(chart.canvas)


def _write_names(chart: Chart, panel: Panel, entries: Sequence[tuple[str, str, Colour]], note: str) -> None:
    left, top = panel.right + 24, panel.top
    chart.text((left, top), f"AUC, {note}" if note else "AUC")
    for row, (number, name, colour) in enumerate(entries, start=1):
        middle = top + row * (LINE + 14)
        chart.ink.rectangle((left, middle, left + SWATCH, middle + SWATCH), fill=colour)
        chart.text((left + 18, middle - 2), shorten(name, _NAMES_WIDTH - 18 - GAP, TEXT_SIZE))
        chart.text((left + 18, middle + 13), number)


def _summarize(areas: np.ndarray, bounds: np.ndarray, known: Sequence[int]) -> str:
    if not known:
        return "no class has both positives and negatives"
    mean, each = ("AUC", "") if len(areas) == 1 else ("mean AUC", "each ")
    return f"{mean} {np.mean(areas[known]):.4f}, {each}within ±{np.max(bounds[known]):.2g}"


def _mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean height of curves over x; where a curve rises upright, the upper end counts."""
    # One value per column of pixels. Curves fall from 1 to 0, and interp needs rising x.
    x = np.linspace(0, 1, _SIDE + 1)
    heights = [np.interp(x, false[::-1], true[::-1]) for false, true in curves]
    return np.concatenate([[0.0], x]), np.concatenate([[0.0], np.mean(heights, axis=0)])


def _count_absent(names: Sequence[str], known: Sequence[int]) -> str:
    return f"{len(names) - len(known)} of {len(names)} without positives or negatives"
