"""Draw what a data set holds: samples per class, and sizes of images and boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..measures.data_statistics import PER_OCTAVE, DataStatistics
from .canvas.captions import shorten
from .canvas.chart import Chart, Panel
from .canvas.picture_style import PictureStyle
from .canvas.theme import BLUE, CHART_WIDTH, GAP, TEXT_LINE, TEXT_SIZE

_MOST_CLASSES = 20
_NAMES = 220  # width of the names of classes
_COUNTS = 190  # width of the numbers behind the bars
_PANEL_HEIGHT = 120


@dataclass(frozen=True)
class _Histogram:
    """One histogram of the sheet: its line of text, its bars, and labels by place from 0 to 1."""

    title: str
    counts: np.ndarray
    labels: Mapping[float, str]


def draw_data_statistics(found: DataStatistics, title: Sequence[str], style: PictureStyle) -> np.ndarray:
    """Draw counts of labels as bars, and sizes of images and boxes as histograms where they differ.

    Args:
        found: what was counted.
        title: lines above.
        style: names the classes.

    Returns:
        [H, W, 3], uint8, RGB.

    Example:
        >>> measure = DataStatistics()
        >>> measure.update([(32, 32)] * 3, np.array([0, 1, 1]))
        >>> draw_data_statistics(measure, ["train"], PictureStyle(["cat", "dog"])).shape[1]
        700
    """
    rows, note = _class_rows(found, style)
    lines = [*_size_lines(found), *([note] if note else [])]
    histograms = _histograms(found)
    height = (len(rows) + len(lines)) * TEXT_LINE + len(histograms) * (_PANEL_HEIGHT + 3 * TEXT_LINE) + 2 * GAP
    chart = Chart(height, title)
    top = chart.top
    for line in lines:
        chart.text((GAP, top), shorten(line, CHART_WIDTH - 2 * GAP, TEXT_SIZE))
        top += TEXT_LINE
    for row in rows:
        _draw_row(chart, top, *row)
        top += TEXT_LINE
    for histogram in histograms:
        _draw_histogram(chart, top, histogram)
        top += _PANEL_HEIGHT + 3 * TEXT_LINE
    return np.array(chart.canvas)


def _class_rows(found: DataStatistics, style: PictureStyle) -> tuple[list[tuple[str, float, str]], str]:
    """Return name, share of the largest and count of each class that is shown, and a line about the others."""
    total, largest = found.labels.sum(), found.labels.max(initial=0.0)
    known = max(len(found.labels), len(style.class_names or ()) if found.unit else 0)
    counts = np.pad(found.labels, (0, known - len(found.labels)))
    # Where not all fit, the most frequent ones and the rarest: between them nothing stands out.
    order = np.argsort(-counts, kind="stable").tolist()
    half = _MOST_CLASSES // 2
    shown = range(known) if known <= _MOST_CLASSES else [*order[:half], *order[-half:]]
    rows = [
        (style.name_of(index), counts[index] / max(largest, 1), _count(counts[index], total, found.unit))
        for index in shown
    ]
    note = f"the {half} most frequent and the {half} rarest of {known} classes" if known > _MOST_CLASSES else ""
    return rows, note


def _count(count: float, total: float, unit: str) -> str:
    share = f"{count / max(total, 1):.1%}"
    # Of pixels only some are looked at.
    return share if unit == "pixels" else f"{count:,.0f}  {share}"


def _size_lines(found: DataStatistics) -> list[str]:
    if not found.shapes:
        return []
    low, high, left, right = found.shapes
    same = (low, left) == (high, right)
    sizes = f"all {left} x {low}" if same else f"{left} to {right} wide, {low} to {high} high"
    kind = {"": [], "samples": ["samples by class"], "boxes": ["boxes by class"], "pixels": ["share of the pixels"]}
    left_out = [f"left out: {found.left_out:,} labels that are no class"] if found.left_out else []
    return [f"{found.samples:,} images, {sizes}", *kind[found.unit], *left_out]


def _histograms(found: DataStatistics) -> list[_Histogram]:
    histograms = []
    if np.count_nonzero(found.sides) > 1:
        histograms.append(_of_sizes("longer side of the images, pixels", found.sides))
    if found.boxes.any():
        last = int(np.flatnonzero(found.boxes)[-1])
        mean = (found.boxes * np.arange(len(found.boxes))).sum() / found.boxes.sum()
        counts = found.boxes[: last + 1]
        labels = {(index + 0.5) / (last + 1): str(index) for index in sorted({0, last // 2, last})}
        histograms.append(_Histogram(f"boxes per image, mean {mean:.1f}", counts, labels))
    if found.box_sides.any():
        histograms.append(_of_sizes("root of the area of the boxes, pixels", found.box_sides))
    return histograms


def _of_sizes(title: str, counts: np.ndarray) -> _Histogram:
    first, *_, last = [*np.flatnonzero(counts).tolist()] * 2
    edges = (first, (first + last + 1) // 2, last + 1)
    size = last + 1 - first
    labels = {(edge - first) / size: _pixels(2 ** (edge / PER_OCTAVE)) for edge in edges}
    return _Histogram(title, counts[first : last + 1], labels)


def _pixels(size: float) -> str:
    return f"{size:,.0f}" if size >= 10 else f"{size:.2g}"


def _draw_row(chart: Chart, top: float, name: str, share: float, count: str) -> None:
    left, width = GAP + _NAMES, CHART_WIDTH - _NAMES - _COUNTS - 3 * GAP
    chart.text((GAP, top), shorten(name, _NAMES - GAP, TEXT_SIZE))
    chart.rectangle(left, top + 4, left + max(share * width, 2 * (share > 0)), top + TEXT_LINE - 4, BLUE)
    chart.text((CHART_WIDTH - GAP, top), count, anchor="ra")


def _draw_histogram(chart: Chart, top: int, histogram: _Histogram) -> None:
    chart.text((GAP, top + GAP), histogram.title)
    panel = Panel(4 * GAP, top + GAP + TEXT_LINE, CHART_WIDTH - 8 * GAP, _PANEL_HEIGHT)
    chart.axes(panel, histogram.labels, {})
    chart.bars(panel, histogram.counts / histogram.counts.max(), BLUE)
