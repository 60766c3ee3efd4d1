"""What the page on migration says is done here to the letter."""

import ast
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from catalyst import dl
from catalyst.contrib.scripts.run import run_from_config
from forked import Forked
from torch import nn
from torch.utils.data import DataLoader

from assay import callbacks, runner
from assay.runner.commands.main import main
from assay.runner.revival import FAULTS

PAGE = Path(__file__).parents[1] / "docs" / "migration.md"
TEXT = PAGE.read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
PYTHON = [text for kind, text in BLOCKS if kind == "python"]
# All that pytorch_toolbelt.utils.catalyst 0.4.4 and its packages define.
TOOLBELT = {
    "AccuracyCallback", "BCEOnlinePseudolabelingCallback", "BestMetricCheckpointCallback", "ConfusionMatrixCallback",
    "F1ScoreCallback", "HyperParametersCallback", "IoUMetricsCallback", "LPRegularizationCallback", "LossModule",
    "LossWrapper", "MixupCriterionCallback", "MixupInputCallback", "MulticlassOnlinePseudolabelingCallback",
    "MultilabelAccuracyCallback", "OutputDistributionCallback", "PassthroughCriterionCallback",
    "PixelAccuracyCallback", "PseudolabelDatasetMixin", "RocAucMetricCallback", "ShowEmbeddingsCallback",
    "ShowPolarBatchesCallback", "StopIfNanCallback", "TSACriterionCallback", "TrainOnlyCriterionCallback",
    "UMAPCallback", "binary_dice_iou_score", "clean_checkpoint", "draw_binary_segmentation_predictions",
    "draw_multilabel_segmentation_predictions", "draw_semantic_segmentation_predictions", "get_multiplier",
    "get_optimizer", "get_optimizer_cls", "get_tensorboard_logger", "multiclass_dice_iou_score",
    "multilabel_dice_iou_score", "pixel_accuracy", "register_toolbelt_in_catalyst", "report_checkpoint",
    "sanitize_metric_name", "scale_learning_rate_for_ddp",
}  # fmt: skip


class Labels:
    """A data set that can be labelled."""

    def set_target(self, index, target):
        pass


def make_items():
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return [{"image": image, "target": index % 3} for index, image in enumerate(images)]


def names_of_blocks():
    """Return what the blocks take for given."""
    masks = [
        {"image": torch.rand(2, 3, 8, 8), "target": torch.randint(0, 3, (2, 8, 8)), "logits": torch.randn(2, 3, 8, 8)}
        for _ in range(2)
    ]
    items = make_items()
    return {
        "items": items,
        "masks": masks,
        "train": DataLoader(items, batch_size=8, shuffle=True),
        "valid": DataLoader(items, batch_size=8),
    }


def names_of_tables():
    exported = {name: getattr(package, name) for package in (callbacks, runner) for name in package.__all__}
    return {
        **exported,
        **{"np": np, "nn": nn, "torch": torch, "torchmetrics": torchmetrics, "DataLoader": DataLoader},
        **{"draw": print, "collate": print, "data": Labels(), "items": [0], "names": ["cat", "dog", "owl"]},
        **{"mean": 0.5, "std": 0.2},
    }


def tables():
    """Return {column: cell} for each row of each table."""
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, flags=re.MULTILINE):
        head, _, *rows = [
            [cell.strip() for cell in line.strip("|").split(" | ")] for line in table.strip().splitlines()
        ]
        for row in rows:
            assert len(row) <= len(head), row
            yield dict(zip(head, row, strict=False))


AFTER = sorted({
    code
    for row in tables()
    for column in ("after", "what is different")
    for code in re.findall(r"`([^`]+)`", row.get(column, ""))
    if re.match(r"^[A-Z]\w+\(|^nn\.\w+\(", code)
})  # fmt: skip


@pytest.mark.parametrize("code", AFTER)
def test_what_stands_behind_after_can_be_made(code):
    assert eval(code, names_of_tables()) is not None


def test_all_of_toolbelt_has_its_row():
    first = [row.get("toolbelt 0.4.4", "") for row in tables()]
    named = {name for cell in first for name in re.findall(r"`(\w+)`", cell)}
    assert named == TOOLBELT
    for row in tables():
        if "before" in row and "toolbelt 0.4.4" in row:
            ast.parse(row["before"].strip("`"))
            assert row["before"].startswith(row["toolbelt 0.4.4"].rstrip("`"))


def test_all_of_catalysts_callbacks_have_their_row():
    named = {name for row in tables() for name in re.findall(r"`(\w+)`", row.get("Catalyst 22.04", ""))}
    bases = {"Callback", "CallbackOrder", "CallbackWrapper", "ICallback"}
    stock = {
        name
        for name in dir(dl)
        if name.endswith(("Callback", "Callaback")) and not re.match(r"I[A-Z]", name) and name not in bases
    }
    assert stock <= named
    assert {"LRFinder", "ControlFlowCallbackWrapper", "TensorboardLogger", "CSVLogger"} <= named


def test_every_fault_that_is_named_is_mended_by_that_name():
    named = {re.search(r"`(\w+)`", row["name"]).group(1) for row in tables() if "name" in row}
    assert len(named) >= 15
    assert named <= set(FAULTS)
    assert {name for name in named if FAULTS[name].changes_numbers} == {
        name for name in named if re.search(rf"`{name}`, changes numbers", TEXT)
    }  # fmt: skip


def test_every_place_that_is_linked_is_there():
    titles = re.findall(r"^#+ (.+)$", TEXT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_every_block_runs(tmp_path):
    config = tmp_path / "config.yml"
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    config.write_text(text)
    ran = Forked(run_blocks, config, cwd=tmp_path).result()  # apart, as Catalyst stays mended
    assert ran.returncode == 0, ran.stderr[-3000:]
    for name in ("toolbelt", "losses", "dict_runner", "loop", "config"):
        assert list((tmp_path / "logs" / name).rglob("events.out.tfevents.*")), name
    for name in ("toolbelt/best-valid-f1/best.pth", "config/best-valid-f1/best.pth"):
        assert (tmp_path / "logs" / name).exists()
    assert re.search(r"^\[\d.*\]$", ran.stdout, flags=re.MULTILINE)  # the labels that were given
    assert "accumulation" not in ran.stdout.split("mended in Catalyst:")[1].split("\n*")[0]


def test_the_experiment_trains(tmp_path, monkeypatch):
    (text,) = [text for text in PYTHON if "(Experiment)" in text]
    (tmp_path / "my_project.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "./my_project.py", "--lr", "0.01", "--epochs", "1", "--silence", "shared-images"]) == 0


def make_net(self):
    nn.Sequential.__init__(self, nn.Flatten(), nn.Linear(192, 3))


def run_blocks(config):
    """Run blocks, as a reader would who copies them into files."""
    (without,) = [text for text in PYTHON if "without=" in text]
    for text in (without, *(text for text in PYTHON if text != without and "(Experiment)" not in text)):
        exec(compile(text, f"{PAGE}: {text[:60]}", "exec"), {**names_of_blocks(), "__name__": "block"})
    project = types.ModuleType("my_project")
    project.Net = type("Net", (nn.Sequential,), {"__init__": make_net})
    items = [{"features": item["image"], "targets": item["target"]} for item in make_items()]
    project.make_loaders = lambda: {key: DataLoader(items, batch_size=8) for key in ("train", "valid")}
    sys.modules["my_project"] = project
    run_from_config(configs=[config])
