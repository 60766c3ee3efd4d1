"""Runs with a history of samples, its files, and plain loops over what they are to hold."""

import math

import numpy as np
import polars as pl
import torch
from catalyst import dl
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import NUMBERS
from assay.runner import Checkpoints, DictRunner, Monitor

COUNT, CLASSES, EPOCHS = 30, 3, 4
LOADERS = ("train", "valid")
OF_SUSPECTS = ("likely", "suspect_score", "suspect_rank", "suspect_kind", "suspect_label")


def items(names=("image", "target", "sample_id"), count=COUNT, ids=True, classes=CLASSES):
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 4, 4, generator=draw)
    labels = torch.randint(0, classes, (count,), generator=draw).tolist()
    found = [{names[0]: image, names[1]: label} for image, label in zip(images, labels, strict=True)]
    return [{**item, names[2]: f"s{i:02}.png"} for i, item in enumerate(found)] if ids else found


def linear(key="logits", outputs=CLASSES):
    torch.manual_seed(0)
    return Named(nn.Sequential(nn.Flatten(), nn.Linear(16, outputs)), key)


class Outputs(dl.Callback):
    """Keeps what the model made of each sample: {(loader, epoch, id): (logits, target)}."""

    def __init__(self, names, key):
        super().__init__(order=200)
        self.names, self.key, self.kept = names, key, {}

    def on_batch_end(self, runner):
        logits = runner.batch[self.key].detach().double()
        for name, row, target in zip(runner.batch[self.names[2]], logits, runner.batch[self.names[1]], strict=True):
            self.kept[runner.loader_key, runner.epoch_step, str(name)] = row.tolist(), int(target)


def read(folder, loader, name):
    """Return a file's rows by id."""
    ids = dict(pl.read_parquet(folder / loader / "ids.parquet").select("index", "id").iter_rows())
    rows = pl.read_parquet(folder / loader / name).iter_rows(named=True)
    return {ids[row["index"]]: row for row in rows}


def shares_of(logits):
    values = np.exp(np.array(logits) - max(logits))
    return values / values.sum()


def row_of(logits, target):
    shares = shares_of(logits)
    prediction = int(np.argmax(logits))
    return {
        "target": target,
        "prediction": prediction,
        "probability": shares[prediction],
        "target_probability": shares[target],
        "margin": logits[target] - max(value for number, value in enumerate(logits) if number != target),
        "el2n": np.linalg.norm(shares - np.eye(len(logits))[target]),
        "loss": -math.log(shares[target]),
    }


def assert_row(found, expected, **tolerance):
    for name, value in expected.items():
        if value is None or isinstance(value, bool | int | str | bytes | np.bool_):
            assert found[name] == value, name
        else:
            np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


def train(folder, *more, epochs=EPOCHS, lr=1.0, **options):
    """Train with every batch saved; return the folder of samples."""
    saving = Checkpoints(folder / "checkpoints", [Monitor.parse("valid/loss:min")], top_k=9, every_n_steps=1)
    data = {key: DataLoader(items(), 4, shuffle=True) for key in LOADERS}
    fit(
        DictRunner(), linear(), data, [SampleHistory(), saving, *more], epochs=epochs, lr=lr, logdir=str(folder),
        seed=1, **options,
    )  # fmt: skip
    return folder / "samples"


def files_of(folder):
    """Return what the files hold by name, each as rows."""
    paths = sorted(folder.rglob("[!.]*.parquet"))
    return {path.relative_to(folder).as_posix(): pl.read_parquet(path).to_dicts() for path in paths}


def rows_of(ids, margin=1.0, prediction=0, classes=0):
    numbers = np.zeros((len(ids), len(NUMBERS)), np.float32)
    numbers[:, NUMBERS.index("margin")] = margin
    numbers[:, NUMBERS.index("prediction")] = prediction
    return SampleRows(np.arange(len(ids)), list(ids), numbers, np.zeros((len(ids), classes), np.float16))
