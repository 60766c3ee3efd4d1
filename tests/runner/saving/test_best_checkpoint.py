"""The weights of the best epochs by a metric, in stock runners too."""

import json
import logging
import math
from types import SimpleNamespace

import pytest
import torch
from catalyst import dl
from kit import Named, Scores, assert_equal, fit
from rank_processes import Ranks
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from assay.callbacks import UsageError
from assay.runner import BestCheckpoint, DictRunner, Monitor

SCORES = [0.3, 0.9, math.nan, 0.5, 0.9, 0.1, math.inf]


class Scripted(Scores):
    """Remembers the weights of each epoch's end."""

    def __init__(self, *scores):
        super().__init__(*scores)
        self.weights = {}

    def on_loader_end(self, runner):
        super().on_loader_end(runner)
        self.weights[runner.epoch_step] = {name: value.clone() for name, value in runner.model.state_dict().items()}


def train(folder, *callbacks, kit="stock", scores=SCORES, **options):
    torch.manual_seed(0)
    inputs, targets = torch.randn(12, 4), torch.arange(12) % 3
    stock = kit == "stock"
    data = TensorDataset(inputs, targets)
    items = [{"image": image, "target": target} for image, target in zip(inputs, targets, strict=True)]
    model, scripted = nn.Linear(4, 3) if stock else Named(nn.Linear(4, 3)), Scripted(*scores)
    runner = dl.SupervisedRunner() if stock else DictRunner(**options.pop("runner", {}))
    fit(
        runner, model, data if stock else items, [scripted, *callbacks], batch=6, lr=0.5, epochs=len(scores),
        logdir=str(folder), **options,
    )  # fmt: skip
    return runner, scripted.weights


@pytest.mark.parametrize("kit", ["stock", "ours"])
@pytest.mark.parametrize(("direction", "best"), [("max", [2, 5, 4]), ("min", [6, 1, 4])])
def test_the_best_epochs_are_those_of_the_metric_and_hold_their_weights(kit, direction, best, tmp_path):
    kept = tmp_path / "kept"
    _, weights = train(tmp_path / "run", BestCheckpoint(f"valid/score:{direction}", kept, top_k=3), kit=kit)
    assert {path.name for path in kept.iterdir()} == {"best.pth", "index.json", *(f"epoch-000{e}.pth" for e in best)}
    for epoch in best:
        assert_equal(torch.load(kept / f"epoch-000{epoch}.pth", weights_only=True), weights[epoch])
    assert_equal(torch.load(kept / "best.pth", weights_only=True), weights[best[0]])
    entries = json.loads((kept / "index.json").read_text())["checkpoints"]
    assert [entry["file"] for entry in entries] == ["best.pth", *(f"epoch-000{e}.pth" for e in best)]
    assert [entry["value"] for entry in entries[1:]] == [SCORES[epoch - 1] for epoch in best]


def test_without_a_folder_it_is_one_of_the_logdir_and_stands_beside_catalysts_own(tmp_path):
    train(tmp_path, BestCheckpoint("valid/score:max"), BestCheckpoint(Monitor("train", "loss", True)))
    assert {path.name for path in (tmp_path / "best-valid-score").iterdir()} == {
        "best.pth", "epoch-0002.pth", "index.json",
    }  # fmt: skip
    assert (tmp_path / "best-train-loss" / "best.pth").exists()
    assert (tmp_path / "checkpoints").is_dir()


def test_of_a_moving_average_the_average_is_kept(tmp_path):
    runner, _ = train(tmp_path, BestCheckpoint("valid/score:max", tmp_path / "b"), kit="ours", scores=[0.5],
                            runner={"ema_decay": 0.9})  # fmt: skip
    kept = torch.load(tmp_path / "b" / "best.pth", weights_only=True)
    assert_equal(kept, runner.ema_.state_dict()["models"][""])
    assert not torch.equal(kept["layer.weight"], runner.model.state_dict()["layer.weight"])


@pytest.mark.filterwarnings("ignore:No ``I:UserWarning")
def test_several_models_are_kept_by_name(tmp_path):
    class TwoModels(dl.Runner):
        def handle_batch(self, batch):
            loss = self.criterion(self.model["head"](self.model["body"](batch[0])), batch[1])
            self.batch_metrics["loss"] = loss
            if self.is_train_loader:
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()

        def on_loader_end(self, runner):
            self.loader_metrics["loss"] = 0.5
            super().on_loader_end(runner)

    models = {"body": nn.Linear(4, 5), "head": nn.Linear(5, 3)}
    parameters = [p for model in models.values() for p in model.parameters()]
    data = DataLoader(TensorDataset(torch.randn(8, 4), torch.arange(8) % 3), batch_size=4)
    fit(
        TwoModels(), models, {"train": data, "valid": data}, [BestCheckpoint(folder=tmp_path / "b")],
        optimizer=torch.optim.SGD(parameters, lr=0.1),
    )  # fmt: skip
    kept = torch.load(tmp_path / "b" / "best.pth", weights_only=True)
    assert kept.keys() == {"body", "head"}
    assert_equal(kept["head"], models["head"].state_dict())


def test_a_metric_that_never_was_finite_is_named_at_the_end(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="assay"):
        train(tmp_path, BestCheckpoint("valid/score:max", tmp_path / "b"), scores=[math.nan])
    assert "BestCheckpoint: valid/score was never finite, so nothing was saved." in caplog.text
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (lambda folder: BestCheckpoint("valid/f1:max"), r"'valid' has no such metric; it has .*'score'"),
        (
            lambda folder: BestCheckpoint("test/score:max"),
            r"names a loader that there is not; there is 'train', 'valid'",
        ),
        (lambda folder: BestCheckpoint("score:max"), r"monitor must read LOADER/METRIC:min or .* got 'score:max'"),
        (lambda folder: BestCheckpoint(top_k=0), r"top_k must be an integer of at least 1, got 0"),
    ],
)
def test_what_cannot_be_followed_is_refused_and_leaves_nothing(callback, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        train(tmp_path, callback(tmp_path), scores=[0.5])
    assert not list(tmp_path.rglob("epoch-*.pth"))


def test_two_callbacks_with_one_folder_are_refused(tmp_path):
    callbacks = [BestCheckpoint(f"valid/{metric}", tmp_path / "b") for metric in ("loss:min", "score:max")]
    with pytest.raises(UsageError, match=r"two callbacks write to .*b; give each its own folder"):
        train(tmp_path, *callbacks, scores=[0.5])


def test_a_folder_is_needed(tmp_path):
    with pytest.raises(UsageError, match=r"needs a folder to write to: pass folder=\.\.\., or train\(logdir"):
        BestCheckpoint()._find_folder(dl.SupervisedRunner())


def test_a_file_that_cannot_be_written_ends_the_run_and_is_named(tmp_path):
    (tmp_path / "b").write_text("a file stands here")
    with pytest.raises(OSError, match="b"):
        train(tmp_path, BestCheckpoint("valid/score:max", tmp_path / "b"), scores=[0.5])


def keep_over_ranks(rank, folder):
    """Have the ranks disagree about the value; return what this one keeps, or what it raises."""
    callback = BestCheckpoint("valid/score:max", folder)
    engine = SimpleNamespace(is_main_process=rank == 0, unwrap_model=lambda model: model)
    runner = SimpleNamespace(loaders={"valid": []}, callbacks={}, engine=engine, model=nn.Linear(2, 2))
    callback.on_experiment_start(runner)
    try:
        for epoch, score in enumerate([0.1 + rank, 0.3 - rank, 0.2], start=1):
            runner.epoch_step, runner.epoch_metrics = epoch, {"valid": {"score": score}}
            callback.on_epoch_end(runner)
    except OSError as error:
        return str(error)
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("size", [1, 2])
def test_the_main_process_decides_and_writes_for_all(size, rank_processes, tmp_path):
    ranks = Ranks(rank_processes, size)
    kept = tmp_path / "kept"
    answers = ranks.run(keep_over_ranks, kept)
    assert answers == [["best.pth", "epoch-0002.pth", "index.json"]] * size
    (tmp_path / "file").write_text("a file")
    answers = ranks.run(keep_over_ranks, tmp_path / "file")
    assert all("file" in answer for answer in answers)
