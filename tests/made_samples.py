"""Made-up files of samples, as a run writes them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import NUMBERS, SampleFiles

GROUPS = ("stuck", "newly_wrong", "forgotten", "unstable", "easy")
JPEG = b"\xff\xd8\xff\xe0 made up"


def logits_of(count, classes, epochs, seed=0):
    """Return logits, [epochs, n, C], that learn, and targets, [n]."""
    draw = np.random.default_rng(seed)
    target = draw.integers(0, classes, count)
    logits = draw.normal(size=(count, classes)) + draw.normal(scale=0.5, size=(epochs, count, classes))
    logits[:, np.arange(count), target] += 0.6 * np.arange(1, epochs + 1)[:, None]
    return logits.astype(np.float32), target


def write_samples(
    run, loader="valid", count=60, classes=4, epochs=3, *, seed=0, ids=None, names=None, task="multiclass", seen=None
):
    """Write the samples of a loader.

    Args:
        seen: [epochs, n], bool, which samples an epoch shows; None: all.
    """
    names = [f"class {number}" for number in range(classes)] if names is None else names
    about = {"loader": loader, "task": task, "class_names": names, "ignore_index": None}
    files = SampleFiles(run / "samples" / loader.replace("/", "_"), about)
    files.cut(0)
    all_logits, target = logits_of(count, classes, epochs, seed)
    ids = [f"{loader}-{number:03}.png" for number in range(count)] if ids is None else ids
    for epoch, logits in enumerate(all_logits, start=1):
        rows = np.arange(count) if seen is None else np.flatnonzero(seen[epoch - 1])
        files.add(epoch, rows_of(logits[rows], target[rows], [ids[row] for row in rows], task))
    return files.folder


def rows_of(logits, target, ids, task="multiclass"):
    every = np.arange(len(logits))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    others = logits.copy()
    others[every, target] = -np.inf
    numbers = {
        "target": target,
        "prediction": logits.argmax(axis=1),
        "probability": shares.max(axis=1),
        "target_probability": shares[every, target],
        "margin": logits[every, target] - others.max(axis=1),
        "el2n": np.linalg.norm(shares - np.eye(logits.shape[1])[target], axis=1),
        "loss": -np.log(shares[every, target]),
    }
    columns = np.stack([numbers[name] for name in NUMBERS], axis=1).astype(np.float32)
    return SampleRows(every, ids, columns, shares.astype(np.float16), task)


def write_groups(folder, count, suspects=(), kinds=None, **groups):
    """Write the groups of samples.

    Args:
        suspects: (index, likely class), the surest first.
        kinds: of suspects by their index; None: as a version that knew of none.
    """
    rank, likely, score = [None] * count, [None] * count, [None] * count
    for number, (index, other) in enumerate(suspects, start=1):
        rank[index], likely[index], score[index] = number, other, 1 / number
    columns = {
        "index": pa.array(range(count), pa.int32()),
        "suspect_rank": pa.array(rank, pa.int32()),
        "likely": pa.array(likely, pa.int32()),
        "suspect_score": pa.array(score, pa.float32()),
    }
    if kinds is not None:
        columns["suspect_kind"] = pa.array([kinds.get(index) for index in range(count)], pa.string())
    for name in GROUPS:
        columns[name] = pa.array([index in groups.get(name, ()) for index in range(count)])
    pq.write_table(pa.table(columns), folder / "groups.parquet")


def write_thumbnails(folder, pictures, epoch=1):
    """Write thumbnails: (index, kind, jpeg)."""
    index, kinds, jpegs = zip(*pictures, strict=True)
    columns = {"index": pa.array(index, pa.int32()), "kind": list(kinds), "jpeg": pa.array(jpegs, pa.binary())}
    pq.write_table(pa.table(columns), folder / f"thumbnails-{epoch:06}.parquet", row_group_size=3)


def write_findings(run, **samples_of):
    """Write findings: rule=(loader, ids)."""
    found = [
        {"severity": "warning", "rule": rule, "where": {"loader": loader, "samples": list(ids)}, "what": "", "do": ""}
        for rule, (loader, ids) in samples_of.items()
    ]
    (run / "findings.json").write_text(json.dumps(found))
