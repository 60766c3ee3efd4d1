"""Stock runners on two processes: what they count, average, save, and when they stop."""

from functools import partial

import pytest
import torch
from catalyst import dl
from sklearn.metrics import roc_auc_score
from stock_projects import make_data, make_loader, make_model, train_stock
from torch import nn
from torch.utils.data import DataLoader, Dataset

COUNT = 250


class Numbered(Dataset):
    """The data with the number of each sample, which says who saw it."""

    def __init__(self, count):
        self.inputs, self.targets = make_data(count)

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return {"features": self.inputs[index], "targets": self.targets[index], "number": index}


class Sees(dl.Callback):
    def __init__(self):
        super().__init__(order=1)
        self.seen = {"train": [], "valid": []}

    def on_batch_start(self, runner):
        self.seen[runner.loader_key] += runner.batch["number"].tolist()


def train_numbered(folder, count, batch_size, lr):
    loaders = {key: DataLoader(Numbered(count), batch_size, shuffle=key == "train") for key in ("train", "valid")}
    sees = Sees()
    callbacks = [
        sees,
        dl.BatchTransformCallback(partial(nn.functional.one_hot, num_classes=3), "on_batch_start", "targets", "onehot"),
        dl.AUCCallback("logits", "onehot"),
        dl.AccuracyCallback("logits", "targets", topk=(1,), num_classes=3),
    ]
    runner = train_stock(
        make_model(), loaders, callbacks=callbacks, lr=lr, logdir=folder,
        valid_loader="valid", valid_metric="loss", minimize_valid_metric=True,
    )  # fmt: skip
    return sees.seen, {key: dict(runner.epoch_metrics[key]) for key in loaders}


@pytest.mark.parametrize(("count", "batch_size"), [(COUNT, 8), (21, 8), (17, 8), (4, 16)])
def test_every_sample_counts_once(revived, tmp_path, count, batch_size):
    answers = revived(2, train_numbered, str(tmp_path), count, batch_size, 0.0)
    for key in ("train", "valid"):
        assert sorted(number for seen, _ in answers for number in seen[key]) == list(range(count))
    inputs, targets = make_data(count)
    with torch.no_grad():
        logits = make_model()(inputs)
    loss = nn.functional.cross_entropy(logits, targets).item()
    right = (logits.argmax(1) == targets).double().mean().item()
    for _, metrics in answers:
        for key in ("train", "valid"):
            assert metrics[key]["loss"] == pytest.approx(loss, abs=1e-6)
            assert metrics[key]["accuracy01"] == pytest.approx(right, abs=1e-6)
            expected = roc_auc_score(nn.functional.one_hot(targets, 3), logits, average="macro")
            assert metrics[key]["auc"] == pytest.approx(expected, abs=1e-5)


class OwnRunner(dl.SupervisedRunner):
    """Averages on its own, as the examples of Catalyst do."""

    def on_loader_start(self, runner):
        super().on_loader_start(runner)
        self.total = self.samples = 0

    def handle_batch(self, batch):
        super().handle_batch(batch)
        self.total += float(nn.functional.cross_entropy(self.batch["logits"], self.batch["targets"], reduction="sum"))
        self.samples += len(self.batch["targets"])

    def on_loader_end(self, runner):
        self.loader_metrics["own"] = self.total / self.samples
        super().on_loader_end(runner)


def average_own(count):
    runner = train_stock(make_model(), {"valid": make_loader(count, 8)}, runner=OwnRunner())
    return runner.loader_metrics["own"]


def test_a_mean_of_ones_own_is_that_of_all_samples(revived):
    inputs, targets = make_data(21)
    expected = nn.functional.cross_entropy(make_model()(inputs), targets).item()
    assert revived(2, average_own, 21) == pytest.approx([expected] * 2)


class StopsOnOne(dl.Callback):
    def on_epoch_end(self, runner):
        runner.need_early_stop = runner.engine.process_index == 1 and runner.epoch_step == 2


def stop_early():
    return train_stock(make_model(), {"train": make_loader()}, epochs=5, callbacks=[StopsOnOne(order=99)]).epoch_step


def test_all_stop_where_one_does(revived):
    assert revived(2, stop_early) == [2, 2]


def save_models(folder):
    model = {"a": make_model(), "b": make_model(1)}
    optimizer = {key: torch.optim.SGD(part.parameters(), lr=0.1) for key, part in model.items()}

    class Both(dl.SupervisedRunner):
        def handle_batch(self, batch):
            parts = [part(batch["features"]) for part in self.model.values()]
            loss = sum(nn.functional.cross_entropy(logits, batch["targets"]) for logits in parts)
            self.batch_metrics["loss"] = loss
            if self.is_train_loader:
                self.engine.backward(loss)
                for part in self.optimizer.values():
                    part.step()
                    part.zero_grad()

    Both().train(model=model, optimizer=optimizer, loaders={"train": make_loader()}, num_epochs=2, logdir=folder)


def test_several_models_are_saved_whole(revived, tmp_path):
    revived(2, save_models, str(tmp_path))
    saved = torch.load(tmp_path / "checkpoints" / "model.last.pth", weights_only=False)
    assert {key.partition("_")[0] for key in saved} == {"model"}
    assert saved["model_a_state_dict"].keys() == make_model().state_dict().keys()
