"""What the text files of a run folder say: settings, environment, metrics, findings, gradients."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..numbers import json_number
from .gradient_table import GRADIENTS, gradient_maps, read_rows

_FILES = ("config.yaml", "metrics.csv", "environment.json", "findings.json", "samples", "results")

Metrics = dict[tuple[str, str], dict[int, float]]
"""Values by loader and metric, then by epoch."""


@dataclass
class RunFiles:
    """The files of a run that are text.

    Attributes:
        folder: the run folder.
        config: the fields of the experiment; empty where there is no file.
        environment: of the run; empty where there is no file.
        metrics: see ``Metrics``.
        findings: None where nothing looked.
        faults: what could not be read, one line each.
    """

    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    findings: list[dict[str, Any]] | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> list[int]:
        """The epochs that have metrics, ascending."""
        return sorted({epoch for values in self.metrics.values() for epoch in values})


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a report can be made of."""
    return any((folder / name).exists() for name in _FILES) or any(folder.rglob("events.out.tfevents.*"))


def read_run(folder: Path) -> RunFiles:
    """Read the text files of a run; what is missing or damaged is left out, and said."""
    run = RunFiles(folder)
    run.config = _read(run, "config.yaml", yaml.safe_load, dict) or {}
    run.environment = _read(run, "environment.json", json.loads, dict) or {}
    run.findings = _read(run, "findings.json", json.loads, list)
    run.metrics = _read(run, "metrics.csv", _metrics, dict) or {}
    return run


def _read(run: RunFiles, name: str, parse: Any, kind: type) -> Any:
    path = run.folder / name
    if not path.exists():
        return None
    try:
        parsed = parse(path.read_text(encoding="utf-8"))
        if not isinstance(parsed, kind):
            raise ValueError(f"it holds no {kind.__name__}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        run.faults.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
        return None
    return parsed


def _metrics(text: str) -> Metrics:
    found: Metrics = {}
    # The last line may be half a line, where a run was killed.
    rows = csv.DictReader(text.rpartition("\n")[0].splitlines())
    if text and not {"epoch", "loader", "metric", "value"} <= set(rows.fieldnames or ()):
        raise ValueError("its columns are not epoch, loader, metric and value")
    for row in rows:
        found.setdefault((row["loader"], row["metric"]), {})[int(row["epoch"])] = float(row["value"])
    return found


def best_epoch(values: Mapping[int, float], minimize: bool) -> int | None:
    """Return the first epoch with the best finite value."""
    finite = [epoch for epoch in sorted(values) if math.isfinite(values[epoch])]
    return min(finite, key=lambda epoch: values[epoch] if minimize else -values[epoch], default=None)


def monitors_of(config: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Return loader, metric and whether less is better of what the best epochs are chosen by."""
    texts = config.get("monitor") or []
    found = []
    for text in [texts] if isinstance(texts, str) else texts:
        name, _, direction = str(text).rpartition(":")
        loader, _, metric = name.partition("/")
        if direction in ("min", "max") and metric:
            found.append((loader, metric, direction == "min"))
    return found


def gradients_of(run: RunFiles) -> list[dict[str, Any]]:
    """Return what became of the gradients of each parameter by epoch, per loader; see ``gradient_maps``."""
    try:
        return gradient_maps(read_rows(run.folder / "results" / GRADIENTS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        run.faults.append(f"{GRADIENTS} cannot be read: {' '.join(str(error).split())[:200]}")
        return []


def series_of(metrics: Metrics, first: Sequence[str]) -> list[dict[str, Any]]:
    """Return the metrics as series: ``loss``, then those named in ``first``, and bounds of errors last."""
    order = ["loss", *first]

    def key(name: str) -> tuple[bool, int]:
        return name.endswith("_bound"), order.index(name) if name in order else len(order)

    found = sorted(metrics.items(), key=lambda item: key(item[0][1]))
    return [
        {
            "loader": loader, "name": name, "steps": sorted(values),
            "values": [json_number(values[step]) for step in sorted(values)],
        }
        for (loader, name), values in found
    ]  # fmt: skip
