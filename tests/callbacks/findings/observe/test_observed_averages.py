"""A moving average that is validated is seen wherever it is kept, with how far it has come."""

import copy

import pytest
import torch
import torch.nn.functional as F
from catalyst import dl
from kit import Named, fit
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from assay.callbacks.findings.observe.training.epochs import EpochWatch
from assay.runner import DictRunner

pytestmark = pytest.mark.filterwarnings("ignore:No ``I:UserWarning")  # of a runner that makes its steps itself


class Watch(dl.Callback):
    """Calls the watch as the callback of the findings does."""

    def __init__(self):
        super().__init__(order=100)
        self.epochs, self.averages = EpochWatch(5), []

    def on_loader_start(self, runner):
        self.epochs.on_loader_start(runner)

    def on_batch_end(self, runner):
        self.epochs.on_batch_end(runner)

    def on_loader_end(self, runner):
        self.epochs.on_loader_end(runner)

    def on_epoch_end(self, runner):
        self.averages.append(self.epochs.probe(runner).average)


class Averaging(dl.Runner):
    """Validates what ``make`` makes of the model at the start, moved towards the model after each step."""

    teaches = False

    def __init__(self, make, decay):
        super().__init__()
        self.make, self.decay = make, decay

    def on_experiment_start(self, runner):
        super().on_experiment_start(runner)
        self.held = self.make(self.model)

    def handle_batch(self, batch):
        inner = getattr(self.held, "module", self.held)
        model = self.model if self.is_train_loader else inner
        loss = F.cross_entropy(model(batch["image"])["logits"], batch["target"])
        self.batch_metrics["loss"] = loss
        if self.is_train_loader:
            if self.teaches:
                inner(batch["image"])
            self.optimizer.zero_grad()
            self.engine.backward(loss)
            self.optimizer.step()
            self.move()

    def move(self):
        if isinstance(self.held, AveragedModel):
            self.held.update_parameters(self.model)
        else:
            with torch.no_grad():
                for average, weight in zip(self.held.parameters(), self.model.parameters(), strict=True):
                    average.lerp_(weight, 1 - self.decay)


class Swap(dl.Callback):
    """Validates the initial weights in the place of the trained ones."""

    def __init__(self):
        super().__init__(order=25)

    def on_experiment_start(self, runner):
        self.initial = copy.deepcopy(runner.model.state_dict())

    def on_loader_start(self, runner):
        if not runner.is_train_loader:
            self.kept = copy.deepcopy(runner.model.state_dict())
            runner.model.load_state_dict(self.initial)

    def on_loader_end(self, runner):
        if not runner.is_train_loader:
            runner.model.load_state_dict(self.kept)


def averages(runner, *callbacks, **options):
    """Return what was validated in each of two epochs."""
    torch.manual_seed(0)
    watch, model = Watch(), Named(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    items = [{"image": torch.randn(6), "target": i % 3, "sample_id": f"s{i}"} for i in range(24)]
    if isinstance(runner, Averaging):
        options["criterion"] = None
    fit(runner, model, {"train": items, "valid": items[:9]}, [*callbacks, watch], batch=4, epochs=2, **options)
    assert all(not module._forward_pre_hooks for module in model.modules())
    return watch.averages


@pytest.mark.parametrize("decay", [0.9999, 0.9])
def test_a_copy_that_the_runner_holds_is_seen_with_the_way_it_has_gone(decay):
    first, second = averages(Averaging(copy.deepcopy, decay))
    assert (first.name, first.decay) == ("held", None)
    assert first.moved < second.moved
    assert (second.moved < 0.01) == (decay == 0.9999)


def test_the_decay_of_a_torch_average_is_known():
    for one in averages(Averaging(lambda it: AveragedModel(it, multi_avg_fn=get_ema_multi_avg_fn(0.999)), 0.0)):
        assert (one.name, one.decay) == ("held", 0.999)
        assert 0 < one.moved < 1


def test_weights_that_are_exchanged_for_validation_are_seen():
    for one in averages(DictRunner(), Swap()):
        assert (one.name, one.moved) == ("", 0.0)


def test_the_trained_weights_and_a_teacher_are_no_average():
    teaching = Averaging(copy.deepcopy, 0.999)
    teaching.teaches = True
    assert averages(teaching) == averages(DictRunner()) == [None, None]


def test_an_average_with_a_warm_up_has_moved():
    assert all(one.moved > 0.3 for one in averages(DictRunner(ema_decay=0.9999)))
