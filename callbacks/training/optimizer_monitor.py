"""OptimizerMonitor: learning rate, momentum, weight decay, gradient norm, clipping and loss scale, per epoch."""

from functools import partial
from typing import Any

import torch
from catalyst import dl
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..base.diagnostic import Diagnostic
from ..base.order import DIAGNOSTICS, OPTIMIZER
from ..errors import UsageError, at_least_one
from ..measures.measure import reduce_measure
from ..measures.optimizer_steps import OptimizerSteps, total_norm
from ..support.runner_view import clipping_norm, loss_scale, norm_before_clipping
from ..support.unwrap import raw_optimizers
from ..tensorboard.writer import Writer
from .param_groups import check_groups, group_settings


class OptimizerMonitor(Diagnostic):
    """Writes the settings of every parameter group and the norm of the gradients, every epoch.

    Tags are written for each training loader, in its folder, at the step ``epoch``. GROUP is the ``name`` of the group,
    or its number; with several optimizers by name it is ``OPTIMIZER-GROUP``. A setting that a group lacks has no tag.

    ================================== ====== ==========================================================================
    tag                                unit   content
    ================================== ====== ==========================================================================
    ``9_optimizer/lr/GROUP``           1      learning rate of the epoch's last step
    ``9_optimizer/momentum/GROUP``     1      its momentum, or the first of its betas
    ``9_optimizer/weight_decay/GROUP`` 1      its weight decay
    ``9_optimizer/grad_norm``          1      norm of all gradients together, mean over the observed steps: before
                                              clipping by norm if the runner keeps that norm (``DictRunner``), otherwise
                                              as the optimizer gets them; NaN if no step was made
    ``9_optimizer/clipped_fraction``   0 to 1 share of the steps whose norm was above ``clip_grad_norm``; only if the
                                              runner clips and keeps the norm
    ``9_optimizer/loss_scale``         1      loss scale at the end of the epoch; only if the engine has a scaler
    ``9_optimizer/skipped_steps``      steps  batches after which the scale had fallen, as it does when a step is
                                              skipped because a gradient overflowed; only with a scaler
    ================================== ====== ==========================================================================

    Optimizers that step in the same batch count as one step; an optimizer that steps again begins the next one. Skipped
    steps do not count in means. Nothing is read from the device within a step.

    Args:
        every_n_steps: compute the norm at one in so many steps of each optimizer, beginning with the first of each
            epoch; 1: at all of them. If the runner clips by norm and keeps it, every step is observed, as that costs
            nothing.
        order: when the callback runs within an event; it must be after the callbacks that step the optimizer.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, the runner has no TensorBoard logger, no
            optimizer to train with, or two groups of one name.
    """

    def __init__(self, every_n_steps: int = 1, *, order: int = DIAGNOSTICS, prefix: str = ""):
        if order <= OPTIMIZER:
            raise UsageError(f"order must be above that of the optimizer, {OPTIMIZER}, got {order}.")
        super().__init__(order, prefix)
        self.every_n_steps = at_least_one("every_n_steps", every_n_steps)
        self.counts_: dict[str, int] = {}
        self.hooks_: list[RemovableHandle] = []
        self.steps_: OptimizerSteps | None = None
        self.norms_: dict[str, Tensor] = {}
        self.skipped_: Tensor | None = None
        self.settings_: dict[str, float | Tensor] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        optimizers = raw_optimizers(runner.optimizer)
        if not optimizers and any(key.startswith("train") for key in runner.loaders):
            raise UsageError("OptimizerMonitor needs a runner with an optimizer, got optimizer=None.")
        check_groups(optimizers)
        for name, optimizer in optimizers.items():
            self.hooks_.append(optimizer.register_step_pre_hook(partial(self._on_step, runner, name)))

    observed = ("steps_", "settings_", "counts_")

    def settle(self, runner: dl.IRunner) -> None:
        """Count the last step."""
        self._close_step()

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return ("9_optimizer/grad_norm",) if loader_key.startswith("train") else ()

    def begin(self, runner: dl.IRunner) -> None:
        self.norms_, self.steps_, self.settings_, self.counts_ = {}, None, {}, {}
        if not runner.is_train_loader:
            return
        max_norm, scale = clipping_norm(runner), loss_scale(runner)
        self.steps_ = OptimizerSteps(runner.engine.device, max_norm=max_norm, scale=scale)
        for name, optimizer in raw_optimizers(runner.optimizer).items():
            self.settings_.update(group_settings(name, optimizer))

    def observe(self, runner: dl.IRunner) -> None:
        self._close_step()
        scale = loss_scale(runner)
        if self.steps_ is not None and scale is not None:
            self.steps_.update_scale(scale)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.steps_ is None:
            return
        # A placeholder for a last batch makes a step, yet has no end of batch of its own.
        self.observe(runner)
        state = reduce_measure(self.steps_)
        found = self.settings_ | self.steps_.compute(state)
        values = {self.full_tag(f"9_optimizer/{name}"): value for name, value in found.items()}
        tensors = {tag: value for tag, value in values.items() if isinstance(value, Tensor)}
        numbers = {tag: value for tag, value in values.items() if not isinstance(value, Tensor)}
        writer.scalars(numbers, runner.epoch_step)
        # Values on the device are packed into one copy, which the writer reads when it has arrived.
        packed = torch.stack([value.to(runner.engine.device, torch.float64).reshape(()) for value in tensors.values()])
        writer.scalars_later(list(tensors), packed, runner.epoch_step)
        self.steps_ = None

    def _on_step(self, runner: dl.IRunner, name: str, optimizer: Optimizer, *_: Any) -> None:
        with self.timed():
            self._take_step(runner, name, optimizer)

    def _take_step(self, runner: dl.IRunner, name: str, optimizer: Optimizer) -> None:
        if self.steps_ is None:
            return
        # An optimizer that steps again begins the next step.
        if name in self.norms_:
            self._close_step()
        self.settings_.update(group_settings(name, optimizer))
        self.counts_[name] = self.counts_.get(name, 0) + 1
        # The runner's norm is that of all parameters, the same for each optimizer.
        clipped = self.steps_.max_norm is not None
        if not clipped and (self.counts_[name] - 1) % self.every_n_steps:
            return
        gradients = _gradients(optimizer)
        if gradients:
            self.norms_[name] = norm_before_clipping(runner) if clipped else _unscaled_norm(optimizer, gradients)
            # A fused optimizer skips its step on the device, where this attribute is not 0.
            self.skipped_ = getattr(optimizer, "found_inf", None)

    def _close_step(self) -> None:
        """Count all that the optimizers did since the last call as one step."""
        if self.steps_ is None or not self.norms_:
            return
        norms = list(self.norms_.values())
        shared = self.steps_.max_norm is not None
        total = norms[0] if shared else torch.linalg.vector_norm(torch.stack([norm.double() for norm in norms]))
        self.steps_.update(total, self.skipped_)
        self.norms_, self.skipped_ = {}, None

    def release(self, runner: dl.IRunner) -> None:
        for hook in self.hooks_:
            hook.remove()
        self.hooks_ = []


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _unscaled_norm(optimizer: Optimizer, gradients: list[Tensor]) -> Tensor:
    # A fused optimizer unscales within its step, so its gradients are still scaled here.
    scale = getattr(optimizer, "grad_scale", None)
    return total_norm(gradients) if scale is None else total_norm(gradients) / scale
