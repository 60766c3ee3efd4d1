"""What the report says of a run, as data of its page."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..numbers import json_number
from .class_reports import class_reports
from .event_scalars import read_scalars
from .figures import read_figures, read_worst
from .run_files import Metrics, RunFiles, best_epoch, gradients_of, monitors_of, series_of

_TIMES = ("9_time", "9_memory", "9_overhead")
_OF_STEPS = "9_optimizer"
_MOST_SERIES = 150
_MOST_POINTS = 400  # of a curve
_LONGEST = 2000  # characters of a setting


@dataclass(frozen=True)
class Known:
    """What a runner knows of its run where the files of the run do not say it: settings, and metrics by epoch."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)


def sections_of(run: RunFiles, budget: int, known: Known) -> dict[str, Any]:
    """Return the sections of a run but for those that need its samples.

    Args:
        run: its files.
        budget: bytes that its pictures may take.
        known: what the runner knows besides.
    """
    notes = list(run.faults)
    groups = (*_TIMES, _OF_STEPS)
    scalars = read_scalars(run.folder, lambda tag: tag.split("/")[0] in groups or _of_stock(tag, run))
    by_kind = {kind: [one.as_dict() for one in scalars if one.name.split("/")[0] == kind] for kind in groups}
    metrics = run.metrics or known.metrics or _stock_metrics(scalars)
    monitors = monitors_of(run.config)
    figures, left_out = read_figures(run.folder, budget)
    if left_out:
        notes.append(
            f"{left_out} pictures of results are left out, as the page would be too large or they are damaged."
        )
    sections = {
        "summary": _summary(run, metrics, monitors),
        "settings": _settings(run.config or known.settings),
        "metrics": _bounded(series_of(metrics, [metric for _, metric, _ in monitors]), "curves", notes),
        "findings": run.findings,
        "gradients": gradients_of(run),
        "class_reports": class_reports(run.folder, metrics),
        "optimizer": _bounded(by_kind[_OF_STEPS], "curves of the optimizer", notes),
        "time": _bounded([one for kind in _TIMES for one in by_kind[kind]], "curves of time", notes),
        "environment": run.environment,
        "figures": figures,
        "worst": read_worst(run.folder)[:200],
        "notes": notes,
    }
    return {name: finite(section) for name, section in sections.items()}


def _summary(run: RunFiles, metrics: Metrics, monitors: Sequence[tuple[str, str, bool]]) -> dict[str, Any]:
    epochs = sorted({epoch for values in metrics.values() for epoch in values})
    command = run.environment.get("command")
    return {
        "experiment": run.environment.get("experiment"),
        "started": run.environment.get("started"),
        "command": shlex.join(map(str, command)) if isinstance(command, list) else None,
        "folder": str(run.folder),
        "data": run.config.get("data_dir"),
        "generated": run.environment.get("generated"),
        "epochs": len(epochs),
        "last_epoch": epochs[-1] if epochs else 0,
        "planned": run.config.get("epochs"),
        "monitors": [_monitor(loader, metric, minimize, metrics) for loader, metric, minimize in monitors],
    }


def _monitor(loader: str, metric: str, minimize: bool, metrics: Metrics) -> dict[str, Any]:
    values = metrics.get((loader, metric), {})
    best = best_epoch(values, minimize)
    return {
        "name": f"{loader}/{metric}", "minimize": minimize, "epoch": best,
        "value": None if best is None else values[best],
    }  # fmt: skip


def _settings(config: Mapping[str, Any]) -> list[list[str]]:
    return [[str(name), _text(value)] for name, value in config.items()]


def _text(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " …"


def _bounded(series: list[dict[str, Any]], what: str, notes: list[str]) -> list[dict[str, Any]]:
    """Return a bounded number of curves with a bounded number of points, of which the last is kept."""
    if len(series) > _MOST_SERIES:
        notes.append(f"{len(series) - _MOST_SERIES} of {len(series)} {what} are left out.")
    found = []
    for one in series[:_MOST_SERIES]:
        count = len(one["steps"])
        every = math.ceil(count / _MOST_POINTS)
        if every > 1:
            kept = sorted({*range(0, count, every), count - 1})
            one = {**one, **{name: [one[name][i] for i in kept] for name in ("steps", "values")}, "every": every}
        found.append(one)
    if any("every" in one for one in found):
        notes.append(f"Of {what} with more than {_MOST_POINTS} points some points are left out.")
    return found


def _of_stock(tag: str, run: RunFiles) -> bool:
    # Catalyst's own logger names a metric's value of an epoch so.
    return not run.metrics and tag.endswith("/epoch")


def _stock_metrics(scalars: Sequence[Any]) -> Metrics:
    stock = [one for one in scalars if one.name.endswith("/epoch")]
    return {(Path(one.loader).name, one.name.removesuffix("/epoch")): one.values for one in stock}


def finite(value: Any) -> Any:
    """Return data as JSON can hold it: numbers that are not finite as texts, and what is no data as text."""
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    if isinstance(value, float):
        return json_number(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)
