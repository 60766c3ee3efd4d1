"""The samples of a run in its report: tables, curves and thumbnails within a budget, and what they add up to."""

import base64
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ...errors import UsageError
from ...results.result_files import file_name
from ..bounded_cache import BoundedCache
from ..documents import table_document
from ..run_samples import SAMPLES, LoaderInfo, RunSamples
from ..suspects import told_suspects
from ..table import Table
from ..thumbnails import Thumbnails
from .class_tables import class_table
from .epochs import earlier_epochs
from .telling import by_loss, telling_order

_CACHE = 1 << 26  # bytes of files that are kept while a report is made
_RANKED = 12  # best and worst samples that are shown beside the gallery
_MOST_EPOCHS = 60  # of a sample's curve
_POINT = 34  # bytes of an epoch of a sample's curve, at most
_DETAILED = 300  # samples with their probability of each class
_SIGHTS = 60  # samples with further thumbnails, such as Grad-CAM
_KINDS = ("image", "drawn", "grad_cam")
_MOST_CLASSES = 200


@dataclass
class Embedded:
    """What a page holds of the samples of a run.

    Attributes:
        loaders: as the gallery takes them.
        classes: tables of classes, one per loader that has them.
        ranked: best and worst samples of each loader.
        counts: name, number of samples and task of each loader.
        notes: what was left out.
        size: bytes that tables, curves and thumbnails take.
    """

    loaders: list[dict[str, Any]] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)
    ranked: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size: int = 0


def open_samples(folder: Path, name: str) -> RunSamples:
    """Return the samples of a run, of which little is kept in memory."""
    return RunSamples(folder, name, BoundedCache(_CACHE))


def embed_samples(
    samples: RunSamples, budget: Mapping[str, int], first: Mapping[str, Sequence[int]] | None = None
) -> Embedded:
    """Return the samples of a run as far as they fit.

    Args:
        samples: of the run.
        budget: bytes for ``tables``, earlier ``epochs``, ``curves`` and ``thumbnails``.
        first: by loader, numbers of samples that are taken before all others.
    """
    found = Embedded()
    infos = sorted(samples.loaders(), key=lambda info: info.count)
    left = {name: budget[name] for name in ("tables", "epochs", "curves", "thumbnails")}
    for place, info in enumerate(infos):
        if info.error or not info.epochs:
            found.notes.append(f"Samples of {info.loader}: {info.error or 'no epoch has ended.'}")
            continue
        # What a small loader leaves is there for the larger ones.
        share = {name: value // (len(infos) - place) for name, value in left.items()}
        try:
            used = _embed_loader(samples, info, share, (first or {}).get(info.loader, ()), found)
        except UsageError as error:
            found.notes.append(f"Samples of {info.loader}: {error}")
            continue
        left = {name: value - used[name] for name, value in left.items()}
        found.size += sum(used.values())
    # Validation before training, as it says what the model is worth.
    for told in (found.classes, found.ranked, found.counts):
        told.sort(key=lambda one: str(one["loader"]).startswith("train"))
    return found


def _embed_loader(
    samples: RunSamples, info: LoaderInfo, budget: Mapping[str, int], first: Sequence[int], found: Embedded
) -> dict[str, int]:
    """Add a loader to what was found; return the bytes that it takes of each kind."""
    table = samples.table(info.loader)
    found.counts.append({"loader": info.loader, "samples": len(table), "task": info.task})
    order = telling_order(table, _rows_of(table, first))
    most = int(budget["tables"] / _bytes_of_row(table))
    rows = np.sort(order[:most])
    if len(rows) < len(table):
        found.notes.append(
            f"The gallery holds {len(rows)} of the {len(table)} samples of {info.loader}: those that a list names and "
            f"wrong ones first. Tables of classes and numbers of samples are of all of them."
        )
    shown = order[:most]
    document = table_document(table, rows) | {"left_out": len(table) - len(rows)}
    # What the table leaves may be taken by earlier epochs.
    table_bytes = int(len(rows) * _bytes_of_row(table))
    epochs, epoch_bytes = earlier_epochs(samples, table, rows, budget["epochs"] + budget["tables"] - table_bytes)
    if epochs["left_out"]:
        found.notes.append(
            f"The slider of {info.loader} has {len(epochs['numbers']) + 1} of {len(table.epochs)} epochs, evenly."
        )
    curves, curve_bytes = _curves(samples, table, shown, budget["curves"])
    thumbnails, thumbnail_bytes = _thumbnails(samples, table, shown, budget["thumbnails"])
    details = _details(samples, table, shown[:_DETAILED])
    found.loaders.append(
        {"document": document, "epochs": epochs, "curves": curves, "samples": details, "thumbnails": thumbnails}
    )
    pictured = int((table.columns["pictured"] == 1).sum())
    held = len(set(thumbnails["index"]))
    if held < pictured:
        found.notes.append(f"Of {info.loader} {held} of {pictured} samples with a thumbnail are shown with it.")
    _summarize(table, found)
    # Of the two the earlier epochs may take more than their share.
    of_epochs = min(epoch_bytes, budget["epochs"])
    return {
        "tables": table_bytes + epoch_bytes - of_epochs, "epochs": of_epochs, "curves": curve_bytes,
        "thumbnails": thumbnail_bytes,
    }  # fmt: skip


def _rows_of(table: Table, indices: Sequence[int]) -> np.ndarray:
    index = table.columns["index"]
    rows = np.searchsorted(index, np.asarray(indices, index.dtype))
    rows = rows[rows < len(index)]
    return np.array([row for row in dict.fromkeys(rows.tolist()) if index[row] in set(indices)], np.int64)


def _bytes_of_row(table: Table) -> float:
    numbers = sum(values.dtype.itemsize for values in table.columns.values()) * 4 / 3
    texts = 0 if table.findings is None else 3 + sum(map(len, map(" ".join, table.findings.values()))) / len(table)
    # Other characters than ASCII take up to six bytes each.
    sample = table.ids.slice(0, 1000).to_pylist()
    return numbers + texts + 4 + sum(len(ascii(name)) * 1.2 for name in sample) / max(1, len(sample))


def _curves(samples: RunSamples, table: Table, rows: np.ndarray, budget: int) -> tuple[dict[str, Any], int]:
    """Return the curves of as many samples as fit, by ascending index, and their bytes."""
    # Of very many samples not all epochs are read.
    epochs = samples.curves(table.loader, [])["epochs"]
    every = -(-len(epochs) // _MOST_EPOCHS)
    # Every so many epochs, back from the last one.
    kept = list(range(len(epochs)))[::-1][::every][::-1]
    most = budget // (_POINT * len(kept))
    indices = np.sort(table.columns["index"][rows[:most]])
    found = samples.curves(table.loader, indices.tolist())
    curves: dict[str, Any] = {"index": indices.tolist(), "epochs": [found["epochs"][i] for i in kept]}
    curves["epochs_left_out"] = len(table.epochs) - len(kept)
    for name, lines in found.items():
        if isinstance(lines, list) and name != "epochs":
            curves[name] = [[_short(line[i]) for i in kept] for line in lines]
    return curves, len(indices) * _POINT * len(kept)


def _short(value: float | None) -> float | int | None:
    """Return the shortest number that is the same one in 32 bits."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _thumbnails(samples: RunSamples, table: Table, rows: np.ndarray, budget: int) -> tuple[dict[str, list[Any]], int]:
    found: dict[str, list[Any]] = {"index": [], "kind": [], "jpeg": []}
    used = 0
    pictured = rows[table.columns["pictured"][rows] == 1]
    indices = table.columns["index"][pictured].tolist()
    wanted = [(index, kind) for index in indices[:_SIGHTS] for kind in _KINDS] + [
        (index, kind) for index in indices[_SIGHTS:] for kind in _KINDS[:2]
    ]
    # Once, as the files are looked up by each question to the run.
    held = Thumbnails.of(samples.folder, (SAMPLES, file_name(table.loader)), samples.cache)
    for index, kind in wanted:
        jpeg = held.get(index, kind)
        if jpeg is None:
            continue
        encoded = base64.b64encode(jpeg).decode()
        used += len(encoded) + 24
        if used > budget:
            return found, budget
        for name, value in (("index", index), ("kind", kind), ("jpeg", encoded)):
            found[name].append(value)
    return found, used


def _details(samples: RunSamples, table: Table, rows: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return id, file, what is suspect and mean probabilities of some samples by index."""
    indices = table.columns["index"][rows]
    told = _suspects(samples.folder.path, table.loader)
    means = _means(samples.folder.path / SAMPLES / file_name(table.loader) / "running.parquet", set(indices.tolist()))
    unknown = {"mean_probability": None, "mean_classes": None}
    return {
        str(index): {
            "id": name, "file": next((row.get("file") for row in told.get(name, ())), None) or None,
            "suspects": told_suspects(told.get(name, ())), **means.get(index, unknown),
        }
        for index, name in zip(indices.tolist(), (table.ids[int(row)].as_py() for row in rows), strict=True)
    }  # fmt: skip


def _means(path: Path, indices: set[int]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    try:
        parquet = pq.ParquetFile(path)
        names = [name for name in ("mean_probability", "mean_classes") if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(16_384, columns=["index", *names]):
            index = batch.column("index").to_pylist()
            for row in (row for row, of in enumerate(index) if of in indices):
                values = {name: batch.column(name)[row].as_py() for name in names}
                means = values.get("mean_probability")
                found[index[row]] = {
                    "mean_probability": None if means is None else [_finite(one) for one in means[:_MOST_CLASSES]],
                    "mean_classes": values.get("mean_classes"),
                }
    except (OSError, ValueError):  # of pyarrow too: the run may be writing it
        return {}
    return found


def _finite(value: float | None) -> float | int | None:
    return None if value is None or not np.isfinite(value) else _short(float(value))


def _suspects(run: Path, loader: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of the table of suspects by the id of their sample."""
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        with open(run / "results" / "suspects.csv", encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("loader") == loader and row.get("sample_id"):
                    found.setdefault(str(row["sample_id"]), []).append(row)
    except (OSError, csv.Error):
        return {}
    return found


def _summarize(table: Table, found: Embedded) -> None:
    columns = table.columns
    if table.task in ("multiclass", "binary", None) and {"target", "prediction"} <= columns.keys():
        classes = class_table(columns["target"], columns["prediction"], table.classes)
        if classes is not None:
            found.classes.append({"loader": table.loader, "epoch": table.epoch, **classes})
    order = by_loss(table)
    if order is not None:
        half = min(_RANKED, len(order) // 2)
        by = "loss" if np.isfinite(columns.get("loss", np.zeros(0))).any() else "score"
        worst, best = ([sample_row(table, row) for row in rows] for rows in (order[:half], order[::-1][:half]))
        told = {"loader": table.loader, "task": table.task, "epoch": table.epoch, "by": by}
        found.ranked.append(told | {"worst": worst, "best": best})


def sample_row(table: Table, row: int) -> dict[str, Any]:
    """Return what a card shows of a sample; what is not known is None."""
    found: dict[str, Any] = {"index": int(table.columns["index"][row]), "id": table.ids[int(row)].as_py()}
    for name in ("target", "prediction"):
        if name in table.columns:
            found[name] = _class_name(int(table.columns[name][row]), table.classes)
    for name in ("probability", "loss", "score"):
        if name in table.columns:
            found[name] = _finite(float(table.columns[name][row]))
    return found


def _class_name(number: int, classes: Sequence[str] | None) -> str | None:
    if number < 0:
        return None
    return classes[number] if classes is not None and number < len(classes) else str(number)
