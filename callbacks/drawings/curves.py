"""Draw the metrics of a run by epoch: one panel per metric, one line per loader."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .canvas.captions import shorten
from .canvas.chart import DASHES, SAMPLE_WIDTH, Chart, Panel
from .canvas.palette import class_colours
from .canvas.text import text_length
from .canvas.theme import CHART_WIDTH, GAP, INK, STROKE, TEXT_LINE, TEXT_SIZE, Colour

History = Mapping[int, Mapping[str, Mapping[str, float]]]
"""Metrics by epoch, loader and name."""

_PANEL_HEIGHT = 170
_LEFT = 98  # of a panel, for its numbers
_MOST_PANELS = 12
_MOST_DIGITS = 6  # of a number at an axis
_DOTTED = 25  # epochs; from there on a line shows its points by itself
_LOGARITHMIC = 100.0  # between the largest and the smallest value


def draw_curves(history: History, *, best: int | None = None, best_by: str | None = None) -> np.ndarray:
    """Draw the metrics of all loaders by epoch.

    Those of parts, with a slash in their name, come last; bounds are left out. A metric whose values are far apart has
    a logarithmic axis. Values that are NaN or infinite are left out.

    Args:
        history: metrics by epoch, loader and name.
        best: the best epoch, which is marked; None: there is none.
        best_by: the metric that it is the best by.

    Returns:
        [H, W, 3], uint8, RGB.

    Example:
        >>> history = {1: {"train": {"loss": 0.9}, "valid": {"loss": 0.8}}, 2: {"train": {"loss": 0.4}}}
        >>> draw_curves(history).shape
        (372, 700, 3)
    """
    names = _metric_names(history)
    shown, more = names[:_MOST_PANELS], len(names) - _MOST_PANELS
    loaders = list(dict.fromkeys(loader for metrics in history.values() for loader in metrics))
    colours: list[Colour] = [tuple(colour) for colour in class_colours(len(loaders)).tolist()]
    columns = 1 if len(shown) < 2 else 2
    rows = math.ceil(len(shown) / columns)
    height = _PANEL_HEIGHT + 3 * TEXT_LINE
    chart = Chart(TEXT_LINE + rows * height + 2 * GAP, _title(history, best, best_by, more))
    top = chart.top + TEXT_LINE + GAP
    _draw_legend(chart, chart.top, list(zip(loaders, colours, strict=True)))
    for index, name in enumerate(shown):
        row, column = divmod(index, columns)
        width = CHART_WIDTH // columns
        panel = Panel(column * width + _LEFT, top + row * height + TEXT_LINE, width - _LEFT - 2 * GAP, _PANEL_HEIGHT)
        chart.text((panel.left, panel.top - 12), shorten(name, panel.width + 2 * GAP, TEXT_SIZE), anchor="ls")
        _draw_metric(chart, panel, {loader: _values(history, loader, name) for loader in loaders}, colours, best)
    return np.array(chart.canvas)


def _metric_names(history: History) -> list[str]:
    found = dict.fromkeys(name for by_loader in history.values() for of in by_loader.values() for name in of)
    # A bound tells how far off another metric may be: it has no course to look at.
    return sorted((name for name in found if not name.endswith("_bound")), key=lambda name: "/" in name)


def _title(history: History, best: int | None, best_by: str | None, more: int) -> list[str]:
    span = f"epochs {min(history)} to {max(history)}" if len(history) > 1 else f"epoch {max(history, default=0)}"
    lines = [span if best is None else f"{span}, best {best}" + (f" by {best_by}" if best_by else "")]
    return lines + ([f"{more} more metrics in metrics.csv"] if more > 0 else [])


def _draw_legend(chart: Chart, top: float, entries: Sequence[tuple[str, Colour]]) -> None:
    left = float(GAP)
    for name, colour in entries:
        chart.line_entry((left, top), name, colour)
        left += SAMPLE_WIDTH + text_length(name, TEXT_SIZE) + 2 * GAP


def _values(history: History, loader: str, name: str) -> dict[int, float]:
    """Return the finite values of a metric by epoch."""
    found = {epoch: metrics.get(loader, {}).get(name, math.nan) for epoch, metrics in sorted(history.items())}
    return {epoch: value for epoch, value in found.items() if math.isfinite(value)}


def _draw_metric(
    chart: Chart, panel: Panel, values: Mapping[str, Mapping[int, float]], colours: Sequence[Colour], best: int | None
) -> None:
    known = [value for of in values.values() for value in of.values()]
    epochs = [epoch for of in values.values() for epoch in of]
    if not known:
        chart.text((panel.left, panel.top), "no finite value")
        return
    scale = _Scale(min(known), max(known))
    first, last = min(epochs), max(epochs)
    places = {epoch: (epoch - first) / max(1, last - first) for epoch in range(first, last + 1)}
    middle = (first + last) // 2
    x_labels = {places[epoch]: str(epoch) for epoch in (first, middle, last)}
    chart.axes(panel, x_labels, {place: scale.label(place) for place in scale.places})
    if best is not None and best in places:
        chart.lines(panel, [(np.full(2, places[best]), np.array([0.0, 1.0]))], [INK], width=3, dashes=[DASHES[2]])
    for of, colour in zip(values.values(), colours, strict=True):
        x, y = np.array([places[epoch] for epoch in of]), np.array([scale.place(value) for value in of.values()])
        if of:
            chart.lines(panel, [(x, y)], [colour])
        if len(of) <= _DOTTED:
            _draw_dots(chart, panel, x, y, colour)


def _draw_dots(chart: Chart, panel: Panel, x: np.ndarray, y: np.ndarray, colour: Colour) -> None:
    for right, up in zip(x.tolist(), y.tolist(), strict=True):
        middle, radius = (panel.x(right), panel.y(up)), STROKE
        chart.ink.ellipse((middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius), fill=colour)


class _Scale:
    """Places values between 0 and 1, on a logarithmic axis where they are far apart."""

    def __init__(self, low: float, high: float):
        self.is_logarithmic = low > 0 and high / low >= _LOGARITHMIC
        self.low, self.high = (math.log(low), math.log(high)) if self.is_logarithmic else (low, high)
        self.places = (0.5,) if low == high else (0.0, 0.5, 1.0)  # of the labels

    def place(self, value: float) -> float:
        if self.high == self.low:
            return 0.5
        return ((math.log(value) if self.is_logarithmic else value) - self.low) / (self.high - self.low)

    def label(self, place: float) -> str:
        value = self.low + place * (self.high - self.low)
        text = f"{math.exp(value) if self.is_logarithmic else value:.3g}"
        return text if len(text) <= _MOST_DIGITS else f"{float(text):.2g}"
