"""Counts over the samples of a table: confusion, distributions, precision and recall."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import UsageError, unknown_name
from .query import Marked, class_scores, rows_that_fit
from .table import RIGHT, UNKNOWN_FLAG, WRONG, Table

MOST_CLASSES = 50  # that a matrix of confusions shows
MOST_BINS = 400
MOST_POINTS = 200  # of a curve

# Of what is a probability, or the deviation of one: a scale that all epochs and runs share.
_SCALES = {
    "probability": (0.0, 1.0), "target_probability": (0.0, 1.0), "confidence": (0.0, 1.0), "score": (0.0, 1.0),
    "variability": (0.0, 0.5),
}  # fmt: skip


def aggregate(
    table: Table,
    kind: str,
    options: Mapping[str, Any] | None = None,
    filters: Mapping[str, Any] | None = None,
    marked: Marked | None = None,
) -> dict[str, Any]:
    """Return counts over the samples that fit filters.

    ==================== ============================================ ==================================================
    kind                 options                                      keys of the result
    ==================== ============================================ ==================================================
    ``confusion``                                                     ``rows``: targets, ``columns``: predictions,
                                                                      ``counts``; ``left_out``: how many classes beyond
                                                                      the 50 with the most errors
    ``distribution``     ``column``, ``bins``: 1 to 400, default 20   ``edges``; ``right``, ``wrong`` and ``unknown`` by
                                                                      bin; ``ranges``
    ``precision_recall`` ``class``                                    ``points``: ``threshold``, ``precision`` and
                                                                      ``recall``; ``positives``, ``over_epochs``
    ``scatter``          ``x``, ``y``: default variability and        ``x_edges``, ``y_edges``, ``counts`` by bin of y,
                         confidence; ``bins``: default 60             then of x; ``x_ranges``, ``y_ranges``
    ==================== ============================================ ==================================================

    A range holds the bounds by which the filter ``ranges`` finds the samples of a bin, no more and no less. A bin
    includes its lower edge, and the last one also its upper edge. All have ``outside``: how many samples that fit are
    in no cell, as a value is unknown or infinite. A point has the samples with at least its threshold, which the filter
    ``class_score`` finds.

    Args:
        table: of a loader in an epoch.
        kind: see above.
        options: see above.
        filters: see ``rows_that_fit``.
        marked: the marks of samples by id.

    Raises:
        UsageError: a name is unknown, or a value is not as it must be.
    """
    if kind not in _KINDS:
        raise unknown_name("kind of aggregate", kind, _KINDS)
    make, known = _KINDS[kind]
    for name in options or {}:
        if name not in known:
            raise unknown_name("option", name, known, f" of {kind}")
    return make(table, dict(options or {}), rows_that_fit(table, filters or {}, marked))


def _confusion(table: Table, _: Mapping[str, Any], fits: np.ndarray) -> dict[str, Any]:
    target, prediction = table.column("target"), table.column("prediction")
    told = fits & (target >= 0) & (prediction >= 0)
    rows, columns = target[told], prediction[told]
    largest = max(int(rows.max(initial=-1)), int(columns.max(initial=-1)))
    shown, left_out = _shown_classes(rows, columns, max(largest + 1, len(table.classes or ())))
    place = np.full(largest + 2, -1)
    place[shown[shown <= largest]] = np.flatnonzero(shown <= largest)
    at = place[rows] * len(shown) + place[columns]
    inside = (place[rows] >= 0) & (place[columns] >= 0)
    counts = np.bincount(at[inside], minlength=len(shown) ** 2).reshape(len(shown), len(shown))
    numbers = shown.tolist()
    outside = int(fits.sum() - counts.sum())
    return {"rows": numbers, "columns": numbers, "counts": counts.tolist(), "left_out": left_out, "outside": outside}


def _shown_classes(rows: np.ndarray, columns: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Return class numbers, ascending: all, or those with the most errors; and how many there are beside."""
    if count <= MOST_CLASSES:
        return np.arange(count), 0
    wrong = rows != columns
    errors = np.bincount(rows[wrong], minlength=count) + np.bincount(columns[wrong], minlength=count)
    return np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES]), count - MOST_CLASSES


def _distribution(table: Table, options: Mapping[str, Any], fits: np.ndarray) -> dict[str, Any]:
    name = options.get("column", "probability")
    values, edges = _scale(table, name, _bins(options, 20))
    correct = table.columns.get("correct", np.full(len(table), UNKNOWN_FLAG, np.uint8))
    where = _places(values, edges, fits & ~table.is_unknown(name))
    found: dict[str, Any] = {"edges": edges.tolist(), "ranges": _ranges(edges)}
    for of, value in (("right", RIGHT), ("wrong", WRONG), ("unknown", UNKNOWN_FLAG)):
        chosen = where[(correct == value) & (where >= 0)]
        found[of] = np.bincount(chosen, minlength=len(edges) - 1).tolist()
    return found | {"outside": int((fits & (where < 0)).sum())}


def _scatter(table: Table, options: Mapping[str, Any], fits: np.ndarray) -> dict[str, Any]:
    bins, names = _bins(options, 60), [options.get("x", "variability"), options.get("y", "confidence")]
    scales = [_scale(table, name, bins) for name in names]
    at_x, at_y = (_places(*scale, fits & ~table.is_unknown(name)) for name, scale in zip(names, scales, strict=True))
    inside = (at_x >= 0) & (at_y >= 0)
    width, height = (len(edges) - 1 for _, edges in scales)
    counts = np.bincount(at_y[inside] * width + at_x[inside], minlength=width * height).reshape(height, width)
    x_edges, y_edges = (edges for _, edges in scales)
    return {
        "x_edges": x_edges.tolist(), "y_edges": y_edges.tolist(), "x_ranges": _ranges(x_edges),
        "y_ranges": _ranges(y_edges), "counts": counts.tolist(), "outside": int((fits & ~inside).sum()),
    }  # fmt: skip


def _precision_recall(table: Table, options: Mapping[str, Any], fits: np.ndarray) -> dict[str, Any]:
    """Return precision and recall at some thresholds, with the samples of at least a threshold taken for the class."""
    if "class" not in options:
        raise UsageError("precision_recall needs the option 'class', a class number.")
    scores, most, over_epochs = class_scores(table, options["class"])
    target = table.column("target")
    told = fits & (target >= 0) & ~np.isnan(scores)
    positive = target == options["class"]
    positives, negatives = np.sort(scores[told & positive]), np.sort(scores[told & ~positive])
    # Nothing at all is known of a sample that was never seen. Of one whose class is none of its likeliest a bound is
    # known, and below that bound nobody can tell whether it has at least the threshold.
    bounded = fits & (target >= 0) & np.isnan(scores) & (most < 1)
    floor = float(most[bounded].max(initial=-np.inf))
    thresholds = _thresholds(positives, negatives, floor) if len(positives) else np.zeros(0, np.float32)
    hits = len(positives) - np.searchsorted(positives, thresholds, side="left")
    misses = len(negatives) - np.searchsorted(negatives, thresholds, side="left")
    points = [
        {"threshold": float(t), "precision": float(h / (h + m)), "recall": float(h / len(positives))}
        for t, h, m in zip(thresholds, hits.tolist(), misses.tolist(), strict=True)
    ]
    return {
        "points": points, "positives": len(positives), "over_epochs": over_epochs,
        "outside": int((fits & ~told & ~bounded).sum()),
    }  # fmt: skip


def _thresholds(positives: np.ndarray, negatives: np.ndarray, floor: float) -> np.ndarray:
    """Return values of scores above a floor, descending: all of them, or some of both kinds, evenly over samples."""
    found = np.unique(np.concatenate([_distinct(positives), _distinct(negatives)]))
    if len(found) > MOST_POINTS:
        half = MOST_POINTS // 2
        parts = [of[np.linspace(0, len(of) - 1, half).round().astype(np.int64)] for of in (positives, negatives)]
        found = np.unique(np.concatenate(parts))
    return found[found > floor][::-1]


def _distinct(ascending: np.ndarray) -> np.ndarray:
    """Return the values in ``ascending``, each once."""
    return ascending[np.flatnonzero(np.diff(ascending, prepend=-np.inf))]


def _bins(options: Mapping[str, Any], default: int) -> int:
    bins = options.get("bins", default)
    if type(bins) is not int or not 1 <= bins <= MOST_BINS:
        raise UsageError(f"bins must be a whole number of 1 to {MOST_BINS}, got {bins!r}.")
    return bins


def _scale(table: Table, name: Any, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a column, and edges of bins, [bins + 1], ascending, of numbers that the column can hold."""
    if not isinstance(name, str):
        raise UsageError(f"column must be the name of a column, got {name!r}.")
    values = table.column(name)
    known = values[~table.is_unknown(name) & np.isfinite(values)]
    # Of all samples, so that a filter does not move the bins.
    low, high = _SCALES.get(name) or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
    if values.dtype != np.float32:
        # Each whole number is in the middle of its bin, or in a bin with its neighbours.
        width = max(1, -(-int(high - low + 1) // bins))
        return values, low - 0.5 + width * np.arange(-(-int(high - low + 1) // width) + 1)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1).astype(np.float32)
    edges[0], edges[-1] = low, high
    if (np.diff(edges) <= 0).any():  # fewer numbers than bins lie between
        return values, np.array([low, high], np.float32)
    return values, edges


def _places(values: np.ndarray, edges: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Return the bin of each value, [n]; -1 where there is none."""
    bins = len(edges) - 1
    told = told & (values >= edges[0]) & (values <= edges[-1])
    # Nearly right by the width of a bin, and then exact by the edges, which is five times as fast as to search them.
    steps = (np.where(told, values, edges[0]) - edges[0]) * (bins / (edges[-1] - edges[0]))
    at = np.clip(steps.astype(np.int32), 0, bins - 1)
    at -= values < edges[at]
    at += (values >= edges[at + 1]) & (at < bins - 1)
    return np.where(told, at, -1)


def _ranges(edges: np.ndarray) -> list[list[float]]:
    """Return the lowest and the highest value of each bin."""
    highest = np.nextafter(edges[1:], -np.inf, dtype=edges.dtype)
    highest[-1] = edges[-1]
    return [[float(low), float(high)] for low, high in zip(edges[:-1], highest, strict=True)]


_KINDS: dict[str, tuple[Callable[[Table, Mapping[str, Any], np.ndarray], dict[str, Any]], tuple[str, ...]]] = {
    "confusion": (_confusion, ()),
    "distribution": (_distribution, ("column", "bins")),
    "precision_recall": (_precision_recall, ("class",)),
    "scatter": (_scatter, ("x", "y", "bins")),
}
