"""``rehearse``: some optimizer steps on copies of a run's model, loss and optimizer, before the run takes its own."""

import copy
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ....support.runner_view import criterion_of
from ....support.unwrap import by_name, raw_optimizers
from ...probe.settings_probe import SettingsProbe
from ...probe.steps_probe import StepsProbe
from ..training.steps import STEPS, StepsWatch
from .batches import first_batch
from .copies import eager
from .passes import Passes, no_trace
from .stand_in import one_number, twins

_log = logging.getLogger("assay")


def rehearse(runner: dl.IRunner, batches: Mapping[str, Sequence[Any]], settings: SettingsProbe) -> StepsProbe | None:
    """Take ``STEPS`` steps on the first training batch, and return what was seen of them.

    Each step has the learning rate that the schedule plans for it. The run itself stays as it is.

    Args:
        runner: of a run that has started, with its models on the device.
        batches: of each loader, by its key, as the loader makes them.
        settings: of the run.

    Returns:
        None where a part cannot be copied, a step fails, or a gradient scaler would take part in the steps.
    """
    # A scaler holds steps back until it has found its scale, and gradients vanish without it.
    if settings.precision == "fp16" or first_batch(batches, "train") is None or not raw_optimizers(runner.optimizer):
        return None
    with no_trace(runner):
        try:
            return _Rehearsal(runner, batches, settings).probe()
        except Exception as error:  # noqa: BLE001 - parts of the user's may raise anything
            _log.debug("no steps were taken on a copy: %s: %s", type(error).__name__, error)
            return None


class _Rehearsal:
    """Steps on copies.

    Args:
        runner: see ``rehearse``.
        batches: see ``rehearse``.
        settings: see ``rehearse``.
    """

    def __init__(self, runner: dl.IRunner, batches: Mapping[str, Sequence[Any]], settings: SettingsProbe):
        self.settings = settings
        self.passes = Passes(runner, batches, settings)
        self.stand = self.passes.stand
        self.batch = first_batch(batches, "train")
        self.optimizers = _copied_optimizers(runner, self.stand.models, self.stand.criterion)
        self.stand.runner.optimizer = self.optimizers.get("", self.optimizers)
        self.hooks: OrderedDict[int, Callable[[], None]] = OrderedDict()
        self.taken = 0
        for optimizer in self.optimizers.values():
            optimizer.register_step_post_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.taken += 1

    def _register(self, hook: Callable[[], None]) -> RemovableHandle:
        handle = RemovableHandle(self.hooks)
        self.hooks[handle.id] = hook
        return handle

    def probe(self) -> StepsProbe | None:
        """Take the steps, and return what was seen of them; None: there was no loss, or no step."""
        groups = [group for one in self.optimizers.values() for group in one.param_groups]
        if self.settings.scheduler and not self.settings.lr_plan and not any(float(group["lr"]) for group in groups):
            return None  # a schedule that nobody can foresee raises it later
        self.passes.begin(self.batch)
        runner = self.stand.runner
        if self.stand.kind != "own":
            runner.register_gradient_hook = self._register
        watch = StepsWatch()
        try:
            with eager(self.stand.models), torch.enable_grad():
                watch.on_loader_start(runner)
                for number in range(STEPS):
                    self._set_rates(groups, number)
                    self._step()
                    watch.on_batch_end(runner)
                watch.on_loader_end(runner)
        finally:
            watch.release()
        return _of_copy(watch.probe)

    def _set_rates(self, groups: list[dict[str, Any]], number: int) -> None:
        plan, given = self.settings.lr_plan, self.settings.groups
        if not plan or len(given) != len(groups):
            return
        last = max(1, self.settings.epochs * self.settings.steps_per_epoch - 1)
        factor = plan[min(len(plan) - 1, number * (len(plan) - 1) // last)]
        for group, start in zip(groups, given, strict=True):
            rate = start.lr * factor
            group["lr"] = torch.as_tensor(rate).to(group["lr"]) if isinstance(group["lr"], Tensor) else rate

    def _step(self) -> None:
        batch = self.passes.sent(self.batch)
        if self.stand.kind == "own":
            self._own_step(batch)
            return
        self.stand.runner.batch = batch
        loss = self.passes.loss_of(batch)
        if loss is None:
            raise ValueError("there is no loss")
        self.stand.runner.batch_metrics = {"loss": loss.detach()}
        self._learn(loss)

    def _own_step(self, batch: Any) -> None:
        """Let the runner's own ``handle_batch`` take the step, where no callback does."""
        stand, before = self.stand, self.taken
        stand.losses.clear()
        error = stand.handle(batch)
        if error is not None:
            raise error
        loss = one_number(stand.runner.batch_metrics.get("loss"))
        if self.taken == before and not stand.losses and loss is not None and loss.requires_grad:
            self._learn(loss)
        if loss is None and stand.losses:
            stand.runner.batch_metrics = {"loss": stand.losses[-1].detach()}

    def _learn(self, loss: Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        for hook in self.hooks.values():
            hook()
        self._clip()
        for optimizer in self.optimizers.values():
            optimizer.step()

    def _clip(self) -> None:
        held = [one for it in self.optimizers.values() for group in it.param_groups for one in group["params"]]
        if self.settings.clip_grad_value:
            nn.utils.clip_grad_value_(held, self.settings.clip_grad_value)
        if self.settings.clip_grad_norm:
            nn.utils.clip_grad_norm_(held, self.settings.clip_grad_norm)


def _copied_optimizers(runner: dl.IRunner, models: Mapping[str, nn.Module], criterion: Any) -> dict[str, Optimizer]:
    """Return copies of the optimizers with their state, which train the copies of what the real ones train."""
    memo: dict[int, Any] = {**twins(runner, models)}
    for key, real in by_name(criterion_of(runner)).items():
        if isinstance(real, nn.Module):
            pairs = zip(real.parameters(), by_name(criterion)[key].parameters(), strict=True)
            memo |= {id(one): twin for one, twin in pairs}
    return copy.deepcopy(raw_optimizers(runner.optimizer), memo)


def _of_copy(probe: StepsProbe | None) -> StepsProbe | None:
    if probe is None:
        return None
    losses = [step.loss for step in probe.steps]
    memorized = (losses[0], losses[-1]) if all(map(math.isfinite, losses)) else None
    return StepsProbe(probe.steps, True, memorized, probe.buffers_moved, probe.modes)
