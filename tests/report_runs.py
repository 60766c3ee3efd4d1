"""Run folders for reports, written by hand, and the data of a page."""

import csv
import json
import re

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from torch.utils.tensorboard import SummaryWriter

HOSTILE = "<script>alert('1')</script> \"'& \u2028\x07 \u202edesrever"
CLASSES = ["cat", HOSTILE, "owl", "never seen"]
JPEG = cv2.imencode(".jpg", np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))[1].tobytes()
METRICS = {
    ("train", "loss"): [2.1194912045882988, 1.25, float("nan"), 0.7],
    ("train", "accuracy"): [0.1, 0.5, 0.6, 0.7],
    ("valid", "loss"): [1.9, 1.1, 0.8, float("inf")],
    ("valid", "accuracy"): [0.2, 0.30277777777777776, 0.9, 0.8],
}
FINDING = {
    "severity": "warning", "rule": "noisy-labels", "where": {"loader": "train", "samples": [HOSTILE]},
    "what": f"two labels of {HOSTILE} look wrong", "evidence": {"share": 0.125}, "do": "look at them", "epoch": 3,
}  # fmt: skip


def write_run(folder, *, metrics=METRICS, epochs=5, findings=(FINDING,), monitor=("valid/accuracy:max",), **config):
    """Write the text files of a run that was ended after four of five epochs, and events of time."""
    folder.mkdir(parents=True)
    config = {"epochs": epochs, "lr": 0.003, "monitor": list(monitor), "note": HOSTILE, "data_dir": None, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    environment = {"command": ["assay", "train", "my experiment"], "experiment": HOSTILE, "python": "3.11.7",
                   "packages": {"torch": "2.15.0"}, "git": {"commit": None, "dirty": True}, "gpus": []}  # fmt: skip
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "findings.json").write_text(json.dumps(list(findings)))
    with open(folder / "metrics.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "loader", "metric", "value"])
        for (loader, name), values in metrics.items():
            rows.writerows([epoch, loader, name, value] for epoch, value in enumerate(values, start=1))
    writer = SummaryWriter(str(folder / "train"))
    for epoch in range(1, 5):
        writer.add_scalar("9_time/forward", 2.0 * epoch, epoch)
        writer.add_scalar("1_overview/loss", 0.5, epoch)
        # As a picture, which is read over.
        writer.add_text("0_findings/list", "x" * 100_000, epoch)
    writer.add_scalar("9_memory/peak_mib", 512.5, 4)
    writer.close()
    return folder


def data_of(path):
    """Return the data in a page."""
    page = path.read_text(encoding="ascii")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def write_samples(run, loader="valid", count=60, *, seed=0, epochs=3, classes=CLASSES, suspects=(), jpeg=JPEG):
    """Write the history of a loader; return target, prediction and loss of the last epoch."""
    folder = run / "samples" / loader
    folder.mkdir(parents=True)
    chance = np.random.default_rng(seed)
    about = {"loader": loader, "task": "multiclass", "class_names": classes, "ignore_index": None}
    (folder / "about.json").write_text(json.dumps(about))
    index = np.arange(count, dtype=np.int32)
    ids = [f"s{number}" for number in index]
    ids[0] = HOSTILE
    pq.write_table(pa.table({"index": index, "id": ids}), folder / "ids.parquet")
    target = np.random.default_rng(1).integers(0, 3, count).astype(np.int32)
    for epoch in range(1, epochs + 1):
        prediction = np.where(chance.random(count) < 0.3, chance.integers(0, 3, count), target).astype(np.int32)
        loss = chance.random(count).astype(np.float32)
        unknown = index == 5
        columns = {"index": index, "target": pa.array(target, mask=unknown), "prediction": prediction, "loss": loss}
        columns["probability"] = chance.random(count).astype(np.float32)
        pq.write_table(pa.table(columns), folder / f"epoch-{epoch:06}.parquet")
    rank = np.zeros(count, np.int32)
    rank[list(suspects)] = np.arange(1, len(suspects) + 1)
    groups = {"index": index, "suspect_rank": pa.array(rank, mask=rank == 0)}
    pq.write_table(pa.table(groups), folder / "groups.parquet")
    means = [[0.5, 0.25, 0.25, 0.0]] * count
    pq.write_table(pa.table({"index": index, "mean_probability": means}), folder / "running.parquet")
    pictures = {"index": index, "kind": ["image"] * count, "jpeg": [jpeg] * count}
    pq.write_table(pa.table(pictures), folder / "thumbnails-000001.parquet")
    return np.where(unknown, -1, target), prediction, loss
