"""Numbers of each class that diagnostics have written: tables in the event files, and metrics of classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...support.tables import read_markdown_table
from ..numbers import json_number
from .event_scalars import read_texts
from .run_files import Metrics

_MOST_ROWS = 200  # classes in a table
# Of ClassificationReport and BoxCurves, and of PRCurves; those of train first.
_TAGS = {
    "3_report": "precision, recall and F1 of each class",
    "1_overview/report": "precision, recall and F1 of each class",
    "4_metrics_per_class/curves": "curves of each class",
}


def class_reports(run: Path, metrics: Metrics) -> list[dict[str, Any]]:
    """Return tables with a row per class, of the last epoch.

    Args:
        run: the run folder.
        metrics: those named ``NAME/CLASS`` make a table of classes and metrics.

    Returns:
        For each table ``loader``, ``title``, ``epoch``, ``header``, ``rows`` and ``left_out``, how many rows more there
        are.
    """
    found = [*_written(run), *_of_metrics(metrics)]
    return sorted(found, key=lambda one: str(one["loader"]).startswith("train"))


def _written(run: Path) -> list[dict[str, Any]]:
    found = []
    for (loader, tag), (step, text) in read_texts(run, tuple(_TAGS)).items():
        kind = next(name for name in _TAGS if tag == name or tag.startswith(f"{name}/"))
        header, rows = read_markdown_table(text)
        if rows:
            prefix = tag.removeprefix(kind).lstrip("/")
            title = f"{_TAGS[kind]}, {prefix}" if prefix else _TAGS[kind]
            found.append(_table(loader, title, step, header, rows) | {"kind": kind})
    return found


def _of_metrics(metrics: Metrics) -> list[dict[str, Any]]:
    by_loader: dict[str, dict[str, dict[str, tuple[int, float]]]] = {}
    for (loader, metric), values in metrics.items():
        name, slash, of = metric.partition("/")
        if slash and name and of and values:
            last = max(values)
            by_loader.setdefault(loader, {}).setdefault(of, {})[name] = last, values[last]
    found = []
    for loader, classes in by_loader.items():
        names = list(dict.fromkeys(name for of in classes.values() for name in of))
        rows = [[of, *(_number(values.get(name)) for name in names)] for of, values in classes.items()]
        epoch = max(epoch for of in classes.values() for epoch, _ in of.values())
        found.append(_table(loader, "metrics of each class or group", epoch, ["", *names], rows) | {"kind": "metrics"})
    return found


def _number(value: tuple[int, float] | None) -> Any:
    return None if value is None else json_number(value[1])


def _table(loader: str, title: str, epoch: int, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {
        "loader": loader, "title": title, "epoch": epoch, "header": list(header),
        "rows": [list(row) for row in rows[:_MOST_ROWS]], "left_out": max(0, len(rows) - _MOST_ROWS),
    }  # fmt: skip


def without_repeated(reports: Sequence[Mapping[str, Any]], loaders: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the tables without those of precision, recall and F1 of loaders that have them from their samples."""
    return [one for one in reports if one["loader"] not in loaders or "report" not in str(one["kind"])]
