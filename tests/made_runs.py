"""Runs that have started and not yet trained, for tests of what is observed of a live runner."""

import warnings

import torch
from catalyst import dl
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.findings.observe.passes.model import observe_model_and_trial
from assay.runner import DictRunner, Engine, LossTerm


def observe_model(runner, batches, settings):
    return observe_model_and_trial(runner, batches, settings)[0]


def observe_trial(runner, batches, settings):
    return observe_model_and_trial(runner, batches, settings)[1]


class Started(Exception):
    pass


class Look(dl.Callback):
    """Calls a function with the runner when the run has started, keeps what it returns, and ends the run."""

    def __init__(self, see):
        super().__init__(order=10_000)
        self.see = see

    def on_experiment_start(self, runner):
        self.seen = self.see(runner)
        raise Started


def look(runner, model, items, see, **options):
    """Return what ``see`` says of a run that has started."""
    callback = Look(see)
    parameters = [p for one in (model.values() if isinstance(model, dict) else [model]) for p in one.parameters()]
    options.setdefault("criterion", nn.CrossEntropyLoss())
    options.setdefault("optimizer", torch.optim.SGD(parameters, lr=0.1) if parameters else None)
    loaders = options.pop("loaders", None) or {key: DataLoader(items, batch_size=8) for key in ("train", "valid")}
    callbacks = [*options.pop("callbacks", ()), callback]
    try:
        with warnings.catch_warnings():
            # Catalyst's, of a criterion without its callback, as a runner has that computes the loss itself.
            warnings.filterwarnings("ignore", "No ``I")
            runner.train(
                model=model, loaders=loaders, callbacks=callbacks, engine=Engine("cpu"), num_epochs=1, **options
            )
    except Started:
        return callback.seen
    raise AssertionError("the run did not start")


class Named(nn.Module):
    """A net with its output under a name."""

    def __init__(self, net, key="logits"):
        super().__init__()
        self.net, self.key = net, key

    def forward(self, image):
        return {self.key: self.net(image)}


def image_items(count=16, side=8, classes=4, seed=0):
    """Return items of random images with classes in turn, as a DictRunner takes them."""
    images = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return [{"image": image, "target": index % classes} for index, image in enumerate(images)]


def stacked(items, count=8):
    """Return the first items as a loader makes a batch of them."""
    return torch.utils.data.default_collate(items[:count])


def batches_of(items, count=8):
    """Return first batches for training and validation."""
    return {"train": [stacked(items, count)], "valid": [stacked(items, count)]}


def dict_runner(*terms, **options):
    return DictRunner(losses=list(terms) or [LossTerm("logits", "target")], **options)


def conv_net(classes=4):
    """Return a small CNN with batch normalization."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, classes),
    )  # fmt: skip
