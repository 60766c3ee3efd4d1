"""What tests of many files share: a short call that trains, and models and data that are as small as can be.

Functions and classes are plain and importable, so that forked ranks find them too (see ``rank_processes``).
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from catalyst import dl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner, Engine


class StandIn(SimpleNamespace):
    """Stands for a runner, of which a callback keeps something as long as it lives."""

    __hash__ = object.__hash__


def fit(
    runner, model, data, callbacks=(), *, batch=None, collate=None, lr=0.1, epochs=1, tensorboard=None, **options
):  # fmt: skip
    """Train on the CPU, by SGD and cross-entropy where no ``optimizer`` and ``criterion`` are given; return the runner.

    Args:
        runner: a runner of ours or of Catalyst.
        model: what it trains.
        data: loaders by name; with ``batch`` data sets by name, or one for training and validation.
        callbacks: a list or dict of them.
        batch: samples per batch.
        collate: how a loader makes a batch of samples.
        lr: learning rate of SGD.
        epochs: how many.
        tensorboard: folder of Catalyst's own logger, for runners without ``logdir``.
        **options: further arguments of ``runner.train``; ``None`` leaves out an optimizer or a criterion.
    """
    if batch is not None:
        named = data if isinstance(data, dict) else {"train": data, "valid": data}
        data = {key: DataLoader(of, batch, collate_fn=collate) for key, of in named.items()}
    if tensorboard is not None:
        options["loggers"] = {"tensorboard": dl.TensorboardLogger(str(tensorboard))}
    if "optimizer" not in options:
        options["optimizer"] = torch.optim.SGD(model.parameters(), lr=lr)
    if "engine" not in options:  # only then, as the first one in a process decides on its precision
        options["engine"] = Engine("cpu")
    options.setdefault("criterion", nn.CrossEntropyLoss())
    callbacks = callbacks if isinstance(callbacks, dict) else list(callbacks)
    runner.train(model=model, loaders=data, callbacks=callbacks, num_epochs=epochs, **options)
    return runner


@dataclass(frozen=True)
class Side:
    """A runner, ours or Catalyst's own, with the names that its batches and callbacks go by."""

    names: tuple[str, str, str]
    """Of the image, the target and the id in a batch."""
    key: str | None
    """Of the output that a model names; None where it returns the tensor alone."""
    keys: dict[str, str]
    """What a callback has to be told of these names."""
    runner: Callable[..., Any]
    logs: Callable[..., dict[str, Any]]
    """From a folder to the arguments of ``runner.train`` that log there."""

    def keys_of(self, *kinds):
        """Return the keys of some kinds, of those that a callback takes: ``output``, ``target``."""
        return {f"{kind}_key": self.keys[f"{kind}_key"] for kind in kinds if self.keys}


def make_stock_runner():
    return dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")


OURS = Side(("image", "target", "sample_id"), "logits", {}, DictRunner, lambda folder: {"logdir": str(folder)})
STOCK = Side(
    ("features", "targets", "name"),
    None,
    {"image_key": "features", "target_key": "targets", "output_key": "scores", "sample_id_key": "name"},
    make_stock_runner,
    lambda folder: {"loggers": {"tensorboard": dl.TensorboardLogger(str(folder))}},
)
SIDES = {"stock": STOCK, "ours": OURS}


def observe(folder, callbacks, data, *, stock=False, epochs=1, criterion=None):
    """Show callbacks the outputs and targets of each loader; return the folder of events, and each epoch's metrics."""
    side = STOCK if stock else OURS
    image, target, _ = side.names
    items = {
        loader: [{image: torch.as_tensor(o), target: torch.as_tensor(t)} for o, t in zip(*of, strict=True)]
        for loader, of in data.items()
    }
    criterion = criterion or (nn.CrossEntropyLoss() if stock else lambda output, target: output.mean())
    metrics = Keep(metrics_of_loaders, hook="on_epoch_end", order=1000)
    fit(
        side.runner(), Given(side.key), items, [*callbacks, metrics], batch=7, lr=0.0, epochs=epochs,
        criterion=criterion, **side.logs(folder),
    )  # fmt: skip
    return folder, metrics.kept


class Named(nn.Module):
    """A layer as our runner takes it, with its output under a name; with ``key=None`` as Catalyst's takes it."""

    def __init__(self, layer, key="logits"):
        super().__init__()
        self.layer, self.key = layer, key

    def forward(self, image):
        output = self.layer(image)
        return output if self.key is None else {self.key: output}


class Given(Named):
    """A model whose output is the image: the data set decides what is predicted. Its one parameter changes nothing."""

    def __init__(self, key="logits"):
        super().__init__(Shift(), key)


class Shift(nn.Module):
    """Adds a parameter that is 0."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        return image + self.shift


class Keep(dl.Callback):
    """Keeps in ``kept`` what ``pick(runner)`` returns in a hook, of one loader or of all."""

    def __init__(self, pick, *, hook="on_batch_end", loader=None, order=dl.CallbackOrder.External):
        super().__init__(order=order)
        self.pick, self.loader, self.kept = pick, loader, []
        setattr(self, hook, self._keep)

    def _keep(self, runner):
        if self.loader in (None, runner.loader_key):
            self.kept.append(self.pick(runner))


def metrics_of_loaders(runner):
    """Return the metrics of an epoch by loader, by which a checkpoint would be chosen."""
    return {key: dict(values) for key, values in runner.epoch_metrics.items()}


class Break(dl.Callback):
    """Raises an error in a hook, as the run itself may: in an epoch, at a batch, in a loader, or anywhere."""

    def __init__(self, *, epoch=None, batch=None, loader=None, hook="on_batch_end", order=0, error=None):
        super().__init__(order=order)
        self.place, self.error = (epoch, batch, loader), error or ZeroDivisionError("the run's own error")
        setattr(self, hook, self._break)

    def _break(self, runner):
        here = runner.epoch_step, runner.loader_batch_step, runner.loader_key
        if all(wanted in (None, found) for wanted, found in zip(self.place, here, strict=True)):
            raise self.error


class Scores(dl.Callback):
    """Gives each loader the metric ``score`` that is decided beforehand, by epoch."""

    def __init__(self, *scores):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.scores = scores

    def on_loader_end(self, runner):
        runner.loader_metrics["score"] = self.scores[runner.epoch_step - 1]


class Killed(Exception):
    """As sudden as a kill: nothing of the run is saved after it."""


class Kill(dl.Callback):
    """Ends the run within an epoch, when each process has done so many batches of it."""

    def __init__(self, epoch, batch):
        super().__init__(order=0)
        self.place = epoch, batch

    def on_batch_end(self, runner):
        if (runner.epoch_step, runner.epoch_rounds) == self.place:
            raise Killed


class Clock:
    """Stands still until it is told how much time passes, in ms."""

    def __init__(self, ms=0.0):
        self.ms = ms

    def __call__(self):
        return self.ms / 1000

    def spend(self, ms):
        self.ms += ms


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def read_events(folder):
    """Return what TensorBoard reads of a folder of event files, with every point of every kind."""
    assert Path(folder).is_dir(), f"no event folder {folder}"
    kinds = dict.fromkeys(("images", "scalars", "tensors", "histograms"), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EventAccumulator(str(folder), size_guidance=kinds).Reload()


def scalars_of(events, *prefixes):
    """Return {tag: {step: value}} of the scalars whose tag begins so."""
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith(prefixes or "")]
    return {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in tags}


def assert_equal(first, second):
    """Compare two states to the bit, through all that holds others."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal(one, other)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


def boxes(*corners, labels=None, scores=None):
    """Return boxes by their corners; all of label 1 where no others are given."""
    part = {"boxes": torch.tensor(np.array(corners), dtype=torch.float32).reshape(-1, 4)}
    part["labels"] = torch.tensor(labels or [1] * len(corners), dtype=torch.int64)
    if scores is not None:
        part["scores"] = torch.tensor(scores, dtype=torch.float32)
    return part
