"""Predictions as CSV: each row against the model's own output."""

import csv

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Given, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import PredictionTable, UsageError
from assay.callbacks.samples.prediction_table import _gathered, _Rows
from assay.runner import DictRunner

NAMES = ["cat", "=dog", "owl"]


def train(kit, folder, outputs, targets, *, ids=None, loader="valid", epochs=1, criterion=None, **options):
    """Run a model that gives ``outputs``; return the rows that were written."""
    names = ("features", "targets") if kit == "stock" else ("image", "target")
    items = [dict(zip(names, pair, strict=True)) for pair in zip(outputs, targets, strict=True)]
    if ids is not None:
        items = [{**item, "sample_id": name} for item, name in zip(items, ids, strict=True)]
    runner = dl.SupervisedRunner(output_key="logits") if kit == "stock" else DictRunner()
    parts = {"optimizer": None, "criterion": None} if kit == "stock" else {"lr": 0.001, "criterion": criterion}
    table = PredictionTable(folder, target_key=names[1], **options)
    model = Given(None if kit == "stock" else "logits")
    fit(runner, model, {loader: items}, [table], batch=4, epochs=epochs, **parts)
    with open(folder / f"{loader}.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kit", ["stock", "ours"])
def test_classes_are_written_with_their_probabilities_in_the_order_of_the_loader(kit, tmp_path):
    logits, targets = torch.randn(11, 3), torch.arange(11) % 3
    rows = train(kit, tmp_path, logits, targets, ids=[f"s{i}" for i in range(11)], class_names=NAMES, epochs=2,
                 criterion=nn.CrossEntropyLoss())  # fmt: skip
    shares = logits.double().exp() / logits.double().exp().sum(dim=1, keepdim=True)
    safe = ["cat", "'=dog", "owl"]  # a spreadsheet would take it for a formula
    assert [row["sample_id"] for row in rows] == [f"s{i}" for i in range(11)]
    assert [row["target"] for row in rows] == [safe[i % 3] for i in range(11)]
    assert [row["prediction"] for row in rows] == [safe[i] for i in logits.argmax(dim=1)]
    found = [[float(row[f"probability/{name}"]) for name in NAMES] for row in rows]
    np.testing.assert_allclose(found, shares, atol=5e-7)


def test_yes_and_no_labels_and_numbers_are_written_too(tmp_path):
    logits = torch.tensor([[2.0], [-1.0], [float("nan")]])
    rows = train("stock", tmp_path / "a", logits, torch.tensor([[1.0], [0.0], [1.0]]), task="binary")
    assert [(row["target"], row["prediction"], row["probability/1"]) for row in rows] == [
        ("1", "1", "0.880797"), ("0", "0", "0.268941"), ("1", "nan", "nan"),
    ]  # fmt: skip
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    rows = train("stock", tmp_path / "b", labels * 4.0 - 1, labels, task="multilabel", class_names=["a", "b", "c"])
    assert [(row["target"], row["prediction"]) for row in rows] == [("a;c", "a;c"), ("", "")]
    numbers = torch.tensor([[1.5, -2.0], [0.1, 1e9]])
    rows = train("stock", tmp_path / "c", numbers, numbers + 1, task="regression")
    assert rows[0] == {
        "sample_id": "0", "target/0": "2.5", "target/1": "-1", "prediction/0": "1.5", "prediction/1": "-2",
    }  # fmt: skip


def test_a_loader_for_inference_has_no_target(tmp_path):
    class Infer(dl.Runner):
        def handle_batch(self, batch):
            self.batch = {"logits": self.model(batch["image"])}

    items = [{"image": torch.tensor([0.0, 3.0])}, {"image": torch.tensor([1.0, 0.0])}]
    fit(
        Infer(), Given(None), {"infer": items}, [PredictionTable(num_classes=2)], batch=1, optimizer=None,
        criterion=None, logdir=str(tmp_path),
    )  # fmt: skip
    with open(tmp_path / "predictions" / "infer.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sample_id"], row["prediction"]) for row in rows] == [("0", "1"), ("1", "0")]
    assert "target" not in rows[0]


def rows_over_ranks(rank, size, count):
    rows = _Rows()
    for position in range(rank, count, size):
        rows.add((position, [str(position)]))
    with _gathered(rows, rank == 0) as files:
        return [[position for position, _ in file] for file in files]


@pytest.mark.parametrize("count", [0, 3, 9000])
def test_the_rows_of_all_ranks_reach_the_main_one(ranks, count):
    main, *others = ranks.run(rows_over_ranks, ranks.size, count)
    assert main == [[*range(rank, count, ranks.size)] for rank in range(ranks.size)]
    assert all(rows == [[]] * ranks.size for rows in others)


@pytest.mark.parametrize(
    ("outputs", "targets", "options", "message"),
    [
        (
            torch.zeros(2, 3, 4, 4),
            torch.zeros(2),
            {"num_classes": 3},
            r"got logits \(2, 3, 4, 4\); masks and boxes are",
        ),
        (torch.zeros(2, 4), torch.zeros(2), {"num_classes": 3}, r"output of shape \[2, 3\], got logits \(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(2, 2), {"num_classes": 3}, r"needs a target for each output of \(2, 3\)"),
        (torch.zeros(2, 3), torch.zeros(2), {"num_classes": 3, "loaders": "test"}, r"asks for key 'test'"),
        (torch.zeros(2, 3), torch.zeros(2), {}, "num_classes or class_names is needed"),
        (torch.zeros(2, 3), torch.zeros(2), {"task": "masks"}, "unknown task 'masks'"),
    ],
)
def test_what_is_no_table_is_refused(outputs, targets, options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        train("stock", tmp_path, outputs, targets, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_needed_and_is_for_one(tmp_path):
    with pytest.raises(UsageError, match=r"PredictionTable needs a folder to write to: pass folder="):
        PredictionTable(num_classes=2)._find_folder(dl.SupervisedRunner())
    runner = dl.SupervisedRunner()
    with pytest.raises(UsageError, match="two callbacks write to"):
        fit(
            runner, Given(None), {"valid": DataLoader([{"features": torch.zeros(2)}])},
            [PredictionTable(tmp_path, num_classes=2), PredictionTable(tmp_path, task="binary")], optimizer=None,
            criterion=None,
        )  # fmt: skip


def test_a_file_that_cannot_be_written_ends_the_run(tmp_path):
    (tmp_path / "f").write_text("a file")
    with pytest.raises(OSError, match="f"):
        train("stock", tmp_path / "f", torch.zeros(2, 3), torch.zeros(2), num_classes=3)
