"""Catalyst's own checkpoints after an epoch that was not the best."""

import json

import pytest
import torch
from catalyst import dl
from stock_projects import make_loader, make_model, train_stock, weights_of

from assay.callbacks import UsageError

SCORES = [0.5, 0.9, 0.7, 0.9]


class Scores(dl.Callback):
    """Gives each epoch the score that the test wants, and keeps its weights."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.metric)
        self.weights = []

    def on_loader_end(self, runner):
        if runner.is_valid_loader:
            runner.loader_metrics["score"] = SCORES[runner.epoch_step - 1]
            self.weights.append(weights_of(runner.engine.unwrap_model(runner.model)))


def train_and_read(folder, minimize, mode, topk, load_best=False):
    model, scores = make_model(), Scores()
    loaders = {"train": make_loader(), "valid": make_loader()}
    saves = dl.CheckpointCallback(
        f"{folder}/checkpoints", "valid", "score", minimize, topk, mode, load_best_on_end=load_best
    )
    callbacks = [dl.CriterionCallback("logits", "targets", "loss"), dl.BackwardCallback("loss")]
    train_stock(model, loaders, callbacks=[*callbacks, dl.OptimizerCallback("loss"), scores, saves], epochs=4)
    saved = torch.load(f"{folder}/checkpoints/{mode}.best.pth", weights_only=False)
    state = saved if mode == "model" else saved["model_state_dict"]
    best = torch.cat([value.flatten() for value in state.values()]).tolist()
    return best, scores.weights, weights_of(model)


@pytest.mark.parametrize("mode", ["model", "runner"])
@pytest.mark.parametrize("topk", [1, 3])
@pytest.mark.parametrize(("minimize", "epoch"), [(True, 1), (False, 2)])
def test_the_best_checkpoint_is_that_of_the_best_epoch(revived, tmp_path, mode, topk, minimize, epoch):
    ((best, weights, _),) = revived(1, train_and_read, str(tmp_path), minimize, mode, topk)
    assert best == weights[epoch - 1]
    assert best != weights[-1]
    record = json.loads((tmp_path / "checkpoints" / f"{mode}.storage.json").read_text())["storage"]
    assert record[0]["logpath"].endswith(f"{mode}.{epoch:04d}.pth")


def test_the_best_weights_are_loaded_at_the_end(revived, tmp_path):
    ((best, _, loaded),) = revived(1, train_and_read, str(tmp_path), True, "model", 1, True)
    assert loaded == best


def train_and_resume(folder):
    """Train for four epochs, and for two and two more; return the weights of both."""
    found = []
    for name, parts in (("whole", [4]), ("broken", [2, 4])):
        model, resumed = make_model(), None
        for epochs in parts:
            save = dl.CheckpointCallback(
                f"{folder}/{name}", "valid", "loss", True, mode="runner", resume_runner=resumed, save_last=True
            )
            loaders = {"train": make_loader(), "valid": make_loader()}
            runner = train_stock(make_model(1), loaders, callbacks=[save], epochs=epochs)
            model, resumed = runner.engine.unwrap_model(runner.model), f"{folder}/{name}/runner.last.pth"
        found.append(weights_of(model))
    return found


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_goes_on_from_the_last_checkpoint(revived, tmp_path, ranks):
    for whole, broken in revived(ranks, train_and_resume, str(tmp_path)):
        assert broken == pytest.approx(whole, rel=1e-12)


def name_a_metric_that_is_not_there(folder):
    loaders = {"train": make_loader(), "valid": make_loader()}
    train_stock(make_model(), loaders, callbacks=[dl.CheckpointCallback(folder, "valid", "iou", False)])


def test_a_metric_that_is_not_there_is_named(revived, tmp_path):
    with pytest.raises(UsageError, match=r"CheckpointCallback\(metric_key=...\) asks for key 'iou', which the metrics"):
        revived(1, name_a_metric_that_is_not_there, str(tmp_path))
