"""W&B, offline: what its own file of the run holds."""

import json
import struct
import time

import cv2
import pytest
from catalyst import dl
from stock_runs import train_stock

from assay.callbacks import ClassificationReport, ConfusionMatrix, OptimizerMonitor

wandb = pytest.importorskip("wandb", reason="the extra trackers is not installed")

KEYS = {"output_key": "logits", "target_key": "targets", "num_classes": 3}
BLOCK = 32768


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")

    def train(**options):
        loggers = {"wandb": dl.WandbLogger(project="tests", dir=str(tmp_path), **options)}
        callbacks = [ConfusionMatrix(**KEYS), ClassificationReport(**KEYS), OptimizerMonitor()]
        train_stock(callbacks, loggers, epochs=2)
        (folder,) = (tmp_path / "wandb").glob("offline-run-*")
        return folder / "files", dict(rows(folder))

    return train


def test_each_epoch_has_its_pictures_texts_and_scalars(trained):
    files, by_step = trained()
    assert by_step.keys() == {1, 2}  # the steps of Catalyst's own metrics: none was dropped
    for row in by_step.values():
        for loader in ("train", "valid"):
            assert {f"loss_epoch/{loader}", f"{loader}/confusion_matrix.path", f"{loader}/report.path"} <= row.keys()
            picture = cv2.imread(str(files / row[f"{loader}/confusion_matrix.path"]))
            size = row[f"{loader}/confusion_matrix.height"], row[f"{loader}/confusion_matrix.width"], 3
            assert picture.shape == size
            assert "<table>" in (files / row[f"{loader}/report.path"]).read_text()
        assert row["optimizer/lr/0_epoch/train"] == pytest.approx(0.1)


@pytest.mark.filterwarnings("ignore:Wandb does NOT support several x-axes")
def test_with_metrics_of_batches_the_steps_are_samples(trained):
    _, by_step = trained(log_batch_metrics=True)
    assert list(by_step) == [4 * step for step in range(1, 13)]  # 2 epochs of 2 loaders of 3 batches of 4 samples
    assert [step for step, row in by_step.items() if "valid/confusion_matrix.path" in row] == [24, 48]
    assert [step for step, row in by_step.items() if "train/confusion_matrix.path" in row] == [24, 48]


def rows(folder):
    """Yield (step, values) of a run's file: records in blocks of 32 KiB, as LevelDB's logs have them."""
    (path,) = folder.glob("run-*.wandb")
    for record in whole_run(path):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            yield values["_step"], values


def whole_run(path):
    """Return the records of a run. W&B's own process writes them, and may go on when the run has finished here."""
    from wandb.proto.wandb_internal_pb2 import Record

    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = [Record.FromString(data) for data in records(path.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.1)
    raise TimeoutError(f"{path} has no end after a minute")


def records(data):
    position, parts = 7, b""
    while position + 7 <= len(data):
        left = BLOCK - position % BLOCK
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        position += 7 + length
        parts += data[position - length : position]
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
