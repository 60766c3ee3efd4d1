"""Whether missing and false labels are found in pictures of several digits, of which each label says if one occurs."""

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.runner import DictRunner, Engine

COUNT, DIGITS, LABELS = 1500, 3, 10
BATCH = 32


def pictures(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pictures of three digits side by side, [n, 1, 8, 24] float32, and which digits occur, [n, 10]."""
    images, classes = load_digits(return_X_y=True)
    draw = np.random.default_rng(seed)
    chosen = draw.integers(0, len(images), (COUNT, DIGITS))
    parts = (images[chosen] / 16).reshape(COUNT, DIGITS, 8, 8)
    truth = np.zeros((COUNT, LABELS), np.int64)
    truth[np.arange(COUNT)[:, None], classes[chosen]] = 1
    return parts.transpose(0, 2, 1, 3).reshape(COUNT, 1, 8, 8 * DIGITS).astype(np.float32), truth


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 4 * 4 * DIGITS, LABELS),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.layers(image)}


def measure(share: float, seed: int, epochs: int) -> dict[str, float]:
    """Train with a share of all labels turned round, and return how well they are ranked and listed."""
    images, truth = pictures(seed)
    is_wrong = np.random.default_rng(seed + 100).random(truth.shape) < share
    labels = np.where(is_wrong, 1 - truth, truth)
    data = [
        {"image": torch.from_numpy(image), "target": torch.from_numpy(row).float(), "sample_id": f"{number:05}"}
        for number, (image, row) in enumerate(zip(images, labels, strict=True))
    ]
    torch.manual_seed(seed)
    model = _Net()
    with tempfile.TemporaryDirectory() as folder:
        DictRunner().train(
            model=model, loaders={"train": DataLoader(data, BATCH, shuffle=True)}, criterion=nn.BCEWithLogitsLoss(),
            optimizer=torch.optim.Adam(model.parameters(), 1e-3), num_epochs=epochs, logdir=folder, seed=seed,
            callbacks=[SampleHistory("multilabel", thumbnails=False)], engine=Engine("cpu"),
        )  # fmt: skip
        return _figures(Path(folder), labels, is_wrong)


def _figures(folder: Path, labels: np.ndarray, is_wrong: np.ndarray) -> dict[str, float]:
    samples = folder / "samples" / "train"
    order = [int(name) for name in pq.read_table(samples / "ids.parquet")["id"].to_pylist()]
    means = np.array(pq.read_table(samples / "running.parquet")["mean_probability"].to_pylist())
    shares = np.empty_like(means)
    shares[order] = means
    flagged = np.zeros(is_wrong.shape, bool)
    kinds = {"missing_label": 0, "false_label": 1}
    for row in _rows(folder / "results" / "suspects.csv"):
        name, kind, label = int(row["sample_id"]), row["kind"], int(row["label"] or row["likely_label"])
        if labels[name, label] != kinds[kind]:
            raise AssertionError(f"{row} is not of its kind")
        flagged[name, label] = True
    excess = np.where(labels == 1, 1 - 2 * shares, 2 * shares - 1)
    return {
        "mean probability": float(average_precision_score(is_wrong.ravel(), excess.ravel())),
        "precision of suspects": float(is_wrong[flagged].mean()),
        "recall of suspects": float(flagged[is_wrong].mean()),
        "recall of missing labels": float(flagged[is_wrong & (labels == 0)].mean()),
        "recall of false labels": float(flagged[is_wrong & (labels == 1)].mean()),
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
