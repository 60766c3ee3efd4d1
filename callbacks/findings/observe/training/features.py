"""``FeatureWatch``: what the last layer of a model is given, for some samples of an epoch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ....keys import SAMPLE_ID_KEY
from ....support.host_copy import HostCopy
from ....support.runner_view import positions_in_loader
from ....support.unwrap import plain_modules
from ...probe.epoch_probe import FeatureProbe
from .class_view import ClassBatch, ClassView
from .steps import is_compiled

SAMPLES, WIDTH = 1000, 512
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Within these a hook would make torch leave its fast path, whose numbers are others.
_LEFT_ALONE = (nn.TransformerEncoderLayer, nn.MultiheadAttention)


@dataclass
class _Bag:
    """What was collected of a loader, on the device."""

    features: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    predictions: list[Tensor] = field(default_factory=list)
    probability: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class FeatureWatch:
    """Collects what the last linear or convolutional layer is given, for up to ``most`` samples of each loader.

    It takes them from the run's own forward passes: of a training loader the last batches of the epoch, in training
    mode and as they are augmented; of a validation loader the first ones. Only tasks with one class a sample have
    features here. Of layers that are wider than ``WIDTH``, evenly spaced values are kept. No step waits for the device.
    The samples are those of this rank. A model that is compiled is left alone.

    Call ``on_loader_start``, ``on_batch_start``, ``on_batch_end`` and ``on_loader_end`` of it in the events of a
    callback; ``probes`` at the end of the epoch; ``release`` when the run ends in any way.

    Args:
        epoch: which epoch to watch.
        most: how many samples to take of each loader, at most.
        sample_id_key: key of the sample ids in the batch; without it samples are named by their place in the loader.
    """

    def __init__(self, epoch: int = 1, most: int = SAMPLES, *, sample_id_key: str = SAMPLE_ID_KEY):
        self.epoch = epoch
        self.most = most
        self.sample_id_key = sample_id_key
        self._view: ClassView | None = None
        self._bag: _Bag | None = None
        self._bags: dict[str, _Bag] = {}
        self._first = self._batch = 0
        self._hooks: list[RemovableHandle] = []
        self._layer: nn.Module | None = None
        self._last: tuple[nn.Module, Tensor] | None = None
        self._done = False  # with the first forward pass of the batch

    # -- events ---------------------------------------------------------------------------------------------------

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Decide whether and from which batch on to collect."""
        self.release()
        self._bag = None
        if runner.epoch_step != self.epoch or runner.is_infer_loader or is_compiled(runner):
            return
        if self._view is None:
            self._view = ClassView(runner)
        self._bag, self._batch, self._layer = _Bag(), 0, None
        needed = math.ceil(self.most / max(1, runner.loader_batch_size))
        self._first = runner.loader_batch_len - needed if runner.is_train_loader else 0

    def on_batch_start(self, runner: dl.IRunner) -> None:
        """Have the batch collected, where it is one of those."""
        if self._bag is None:
            return
        self._last, self._done = None, False
        self._batch += 1
        if self._batch > self._first and not self._hooks:
            self._attach(runner)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        """Keep what the last layer was given, with labels and predictions."""
        if self._bag is None or self._view is None or not self._hooks:
            return
        last, self._last = self._last, None
        batch = self._view.take(runner)
        if last is None or batch is None or not _has_class_per_sample(batch) or len(last[1]) != len(batch.target):
            if self._layer is None:
                self._give_up()
            return
        if self._layer is None:
            # The other layers are not asked again.
            self._layer = last[0]
            self.release()
        self._collect(runner, self._bag, batch, *last)
        if len(self._bag.names) >= self.most:
            self._finish(runner)

    def _give_up(self) -> None:
        # What the first batch does not show, no other one does.
        self.release()
        self._bag = None

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """End with the loader."""
        if self._bag is not None:
            self._finish(runner)

    def probes(self) -> dict[str, FeatureProbe]:
        """Return what was collected of each loader, once; it waits for the device."""
        bags, self._bags = self._bags, {}
        return {key: self._probe(bag) for key, bag in bags.items() if bag.names}

    def release(self) -> None:
        """Remove all hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._last = [], None

    # -- the hooks ------------------------------------------------------------------------------------------------

    def _attach(self, runner: dl.IRunner) -> None:
        models = list(plain_modules(runner).values())
        layers = [self._layer] if self._layer is not None else [one for it in models for one in _layers_of(it)]
        self._hooks = [layer.register_forward_hook(self._look) for layer in layers]
        if len(models) == 1:
            # What goes through the model again, as for another picture of a batch, is not what the loss saw.
            self._hooks.append(models[0].register_forward_hook(self._end_pass))

    def _look(self, layer: nn.Module, inputs: Sequence[Any], _: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and not self._done:
            self._last = layer, inputs[0].detach()

    def _end_pass(self, *_: Any) -> None:
        self._done = True

    # -- what was seen --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _collect(
        self, runner: dl.IRunner, bag: _Bag, batch: ClassBatch, layer: nn.Module, given: Tensor
    ) -> None:  # fmt: skip
        count = min(len(given), self.most - len(bag.names))
        bag.features.append(_narrow(_by_sample(layer, given[:count])))
        bag.labels.append(batch.target[:count].reshape(count).clone())
        bag.predictions.append(batch.predicted[:count].reshape(count).clone())
        bag.probability.append(_probability(batch)[:count].float())
        bag.names += self._names(runner, len(batch.target))[:count]

    def _names(self, runner: dl.IRunner, count: int) -> list[str]:
        ids = runner.batch.get(self.sample_id_key)
        if isinstance(ids, list | tuple) and len(ids) == count:
            return [str(one) for one in ids]
        return [str(position) for position in positions_in_loader(runner, count)]

    def _finish(self, runner: dl.IRunner) -> None:
        self.release()
        if self._bag is not None:
            self._bags[runner.loader_key] = self._bag
        self._bag = None

    def _probe(self, bag: _Bag) -> FeatureProbe:
        parts = (bag.features, bag.labels, bag.predictions, bag.probability)
        features, labels, predictions, probability = (HostCopy(torch.cat(part), own=True) for part in parts)
        return FeatureProbe(
            features=features.read().numpy().astype(np.float32),
            labels=labels.read().numpy().astype(np.int64),
            predictions=predictions.read().numpy().astype(np.int64),
            probability=probability.read().numpy().astype(np.float32),
            names=tuple(bag.names),
        )


def _layers_of(model: nn.Module) -> list[nn.Module]:
    alone = {id(part) for one in model.modules() if isinstance(one, _LEFT_ALONE) for part in one.modules()}
    return [one for one in model.modules() if isinstance(one, _LAYERS) and id(one) not in alone]


def _has_class_per_sample(batch: ClassBatch) -> bool:
    # Of masks, pixels have classes, and samples have none.
    return batch.task != "multilabel" and batch.target.numel() == len(batch.target)


def _by_sample(layer: nn.Module, given: Tensor) -> Tensor:
    """Return what a layer was given as [N, D], averaged over positions."""
    given = given.float()
    if isinstance(layer, nn.Linear):
        return given.reshape(len(given), -1, given.shape[-1]).mean(dim=1)
    return given.flatten(2).mean(dim=2)


def _narrow(features: Tensor) -> Tensor:
    every = math.ceil(features.shape[1] / WIDTH)
    return features[:, ::every].clone()


def _probability(batch: ClassBatch) -> Tensor:
    """Return the probability of each prediction, [N]."""
    output = batch.output.float()
    if batch.task == "binary":
        yes = output if batch.kind == "bce" else output.sigmoid()
        return torch.maximum(yes, 1 - yes).reshape(-1)
    shares = output.exp() if batch.kind == "nll" else output.softmax(dim=1)
    return shares.amax(dim=1)
