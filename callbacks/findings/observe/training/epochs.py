"""``EpochWatch``: what each of the first epochs shows: metrics, classes, broken and clipped steps."""

from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ....base.epoch_history import metrics_of_loaders
from ....measures.optimizer_steps import OptimizerSteps
from ....non_finite.guard import NonFiniteGuard
from ....support.distributed import reduce_state
from ....support.host_copy import HostCopy
from ....support.runner_view import callbacks_of, clipping_norm, loss_scale, norm_before_clipping
from ....support.unwrap import by_name, inside, raw_optimizers
from ...probe.epoch_probe import EpochProbe
from ..settings.optimizers import innermost
from .averages import AverageWatch
from .class_view import ClassView

EPOCHS = 5


class EpochWatch:
    """Watches the first epochs of a run, without making any step wait for the device.

    Classes are counted over all ranks, of the output that the loss or a metric says is one of classes: never more than
    a thousand, and of masks some of the pixels. Nothing else is asked of the run's own callbacks, but for the steps
    that a ``NonFiniteGuard`` held back.

    Call ``on_loader_start``, ``on_batch_end`` and ``on_loader_end`` of it in the events of a callback that runs after
    those that step the optimizer, on every rank, as the end of a loader is a collective; ``probe`` in ``on_epoch_end``;
    ``release`` when the run ends in any way.

    Args:
        epochs: up to which epoch to watch.
    """

    def __init__(self, epochs: int = EPOCHS):
        self.epochs = epochs
        self._view: ClassView | None = None
        self._watches = False
        self._hooks: list[RemovableHandle] = []
        self._counts: Tensor | None = None
        self._averages = AverageWatch(epochs)
        self._schedule_began: int | None = None
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._labels: dict[str, NDArray[np.int64]] = {}
        self._predictions: dict[str, NDArray[np.int64]] = {}
        self._scales: list[HostCopy] = []
        self._steps: dict[str, int] = {}
        self._clipping: OptimizerSteps | None = None
        self._broken: Tensor | None = None  # training batches whose loss is not finite
        self._guarded = 0  # steps that the guard held back
        self._guarded_before = 0
        self._broken_steps = 0

    # -- events ---------------------------------------------------------------------------------------------------

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Begin to count a loader."""
        self._averages.on_loader_start(runner)
        self._watches = runner.epoch_step <= self.epochs and not runner.is_infer_loader
        self._counts = None
        if not self._watches:
            return
        if self._view is None:
            self._view = ClassView(runner)
            self._schedule_began = _made_by_scheduler(runner)
        if runner.is_train_loader:
            self._attach(runner)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        """Count the classes of a batch, and what broke in it."""
        if not self._watches or self._view is None:
            return
        if runner.is_train_loader:
            self._look_at_step(runner)
        batch = self._view.take(runner)
        if batch is None:
            return
        counts = batch.counts()
        if self._counts is None:
            self._counts = counts
        elif self._counts.shape == counts.shape:
            self._counts += counts

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """Sum up over all ranks. A collective."""
        self._averages.on_loader_end(runner)
        if not self._watches:
            return
        labels, predictions = self._summed(runner)
        if labels.size:
            self._labels[runner.loader_key], self._predictions[runner.loader_key] = labels, predictions
        if runner.is_train_loader:
            self._end_training(runner)
        self._watches = False

    def probe(self, runner: dl.IRunner) -> EpochProbe | None:
        """Return what the epoch showed, at its end; None where it was not watched."""
        if runner.epoch_step > self.epochs:
            return None
        found = self._probe(runner)
        self._start_epoch()
        return found

    def release(self) -> None:
        """Remove all hooks."""
        self._averages.release()
        self._detach()

    def _detach(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    # -- steps ----------------------------------------------------------------------------------------------------

    def _attach(self, runner: dl.IRunner) -> None:
        self._detach()
        device, norm = runner.engine.device, clipping_norm(runner)
        if norm is not None and self._clipping is None:
            self._clipping = OptimizerSteps(device, max_norm=norm)
        if self._broken is None:
            self._broken = torch.zeros((), dtype=torch.int64, device=device)
        self._guarded_before = 0
        for name, optimizer in raw_optimizers(runner.optimizer).items():
            self._hooks.append(optimizer.register_step_pre_hook(partial(self._before_step, runner, name)))
        self._keep_scale(runner)

    def _before_step(self, runner: dl.IRunner, name: str, optimizer: Optimizer, *_: Any) -> None:
        # The norm is that of all parameters, the same for each optimizer.
        if self._clipping is not None and name == next(iter(raw_optimizers(runner.optimizer))):
            self._clipping.update(norm_before_clipping(runner), getattr(optimizer, "found_inf", None))
        self._steps[name] = self._steps.get(name, 0) + 1

    def _look_at_step(self, runner: dl.IRunner) -> None:
        loss = runner.batch_metrics.get("loss")
        if isinstance(loss, Tensor) and self._broken is not None:
            self._broken += (~loss.detach().isfinite()).any()
        for callback in map(inside, callbacks_of(runner)):
            if isinstance(callback, NonFiniteGuard):
                self._guarded += max(0, callback.skipped_ - self._guarded_before)
                self._guarded_before = callback.skipped_

    def _keep_scale(self, runner: dl.IRunner) -> None:
        scale = loss_scale(runner)
        if scale is not None:
            self._scales.append(HostCopy(scale, own=True))

    def _end_training(self, runner: dl.IRunner) -> None:
        self._keep_scale(runner)
        self._detach()
        if self._broken is not None:
            reduced = reduce_state({"broken": self._broken}, {"broken": "max"})["broken"]
            self._broken_steps += _whole(reduced)
            self._broken = None

    # -- what was seen --------------------------------------------------------------------------------------------

    def _summed(self, runner: dl.IRunner) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return how often each class was the target and was predicted, over all ranks."""
        counts, self._counts = self._counts, None
        device = runner.engine.device
        # A rank without a batch does not know the number of classes.
        size = torch.tensor(0 if counts is None else counts.shape[1], device=device)
        most = _whole(reduce_state({"size": size}, {"size": "max"})["size"])
        if counts is None or counts.shape[1] != most:
            counts = torch.zeros((2, most), dtype=torch.int64, device=device)
        summed = HostCopy(reduce_state({"counts": counts.to(device)}, {"counts": "sum"})["counts"]).read().numpy()
        return summed[0], summed[1]

    def _probe(self, runner: dl.IRunner) -> EpochProbe:
        scales = [float(_number(copy)) for copy in self._scales]
        return EpochProbe(
            epoch=int(runner.epoch_step),
            metrics=metrics_of_loaders(runner.epoch_metrics),
            label_counts=self._labels,
            prediction_counts=self._predictions,
            non_finite_steps=max(self._guarded, self._broken_steps),
            steps=max(self._steps.values(), default=0),
            steps_by_optimizer={name: self._steps.get(name, 0) for name in raw_optimizers(runner.optimizer)},
            scheduler_steps=self._scheduler_steps(runner),
            scales=(scales[0], scales[-1]) if scales else None,
            clipped=self._clipped_share(),
            average=self._averages.take(),
        )

    def _scheduler_steps(self, runner: dl.IRunner) -> int | None:
        made = _made_by_scheduler(runner)
        return None if made is None or self._schedule_began is None else made - self._schedule_began

    def _clipped_share(self) -> float | None:
        if self._clipping is None or not self._steps:
            return None
        return float(_number(HostCopy(self._clipping.compute()["clipped_fraction"])))


def _made_by_scheduler(runner: dl.IRunner) -> int | None:
    """Return how many steps the first scheduler has made; None where it does not count them."""
    made = [getattr(innermost(one), "last_epoch", None) for one in by_name(runner.scheduler).values()]
    return made[0] if made and isinstance(made[0], int) else None


def _number(copy: HostCopy) -> Any:
    return copy.read().tolist()


def _whole(value: Tensor) -> int:
    return int(_number(HostCopy(value)))
