"""``StepsWatch``: the first optimizer steps of a run, as they are made."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ....keys import SAMPLE_ID_KEY
from ....support.host_copy import HostCopy
from ....support.runner_view import callbacks_of, gradient_hooks_of, is_resumed, loss_scale, supervised_keys
from ....support.unwrap import by_name, held_by, raw_optimizers, trained_parameters
from ...probe.steps_probe import StepProbe, StepsProbe
from ..settings.terms import clips_in_callbacks
from .broken_inputs import BrokenInputs
from .layer_modes import LayerModes
from .stale_gradients import StaleGradients
from .watched import Norms, choose_watched, first_rows

STEPS = 30
# Steps whose update is measured where keeping the weights of before is a lot: the first, and then ever fewer.
_SPARSE = (1, 2, 3, 5, 7, 10, 15, 20, 25, 30)
_LITTLE = 1_000_000  # numbers that may be kept at every step
_MODES_AT = 3  # steps at which modes are looked at: a layer that is in evaluation mode by accident stays in it


@dataclass
class _Step:
    """A step whose numbers are on their way to the host."""

    optimizers: set[str] = field(default_factory=set)
    lr: list[float | HostCopy] = field(default_factory=list)
    gradients: list[tuple[Norms, HostCopy | None]] = field(default_factory=list)
    all_seen: bool = True
    weights: list[Norms] = field(default_factory=list)
    updates: list[Norms] = field(default_factory=list)
    stale: list[Callable[[], bool]] = field(default_factory=list)
    loss: HostCopy | float | None = None
    scale: HostCopy | None = None
    inputs: list[BrokenInputs] = field(default_factory=list)


class _OptimizerWatch:
    """What is kept of one optimizer between its steps."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, hooks: bool):
        self.parameters = dict(parameters)
        self.watched = choose_watched(parameters)
        rows = first_rows(list(self.watched.values()))
        self.rows = dict(zip(self.watched, rows, strict=True))
        # A norm of some rows stands for the whole.
        self.factors = {
            name: math.sqrt(self.watched[name].numel() / part.numel())
            for name, part in self.rows.items()
            if part.numel() < self.watched[name].numel()
        }
        self.before: list[Tensor] = []
        self.keeps = False
        self.stale = StaleGradients(list(self.watched.values())) if hooks else None
        self.steps = 0

    @property
    def numbers(self) -> int:
        return sum(part.numel() for part in self.rows.values())

    @torch.no_grad()
    def keep_weights(self) -> Norms:
        """Keep the weights as they are before a step, and return their norms."""
        now = list(self._current_rows().values())
        if self.before:
            torch._foreach_copy_(self.before, now)
        else:
            self.before = [part.clone() for part in now]
        self.keeps = True
        return Norms(dict(zip(self.rows, self.before, strict=True)), self.factors)

    @torch.no_grad()
    def measure_updates(self) -> Norms:
        """Return the norms of the change since the weights were kept."""
        self.keeps = False
        # In the memory of what was kept, which is not needed any more.
        if self.before:  # an optimizer may hold nothing of the model
            torch._foreach_sub_(self.before, list(self._current_rows().values()))
        return Norms(dict(zip(self.rows, self.before, strict=True)), self.factors)

    def _current_rows(self) -> dict[str, Tensor]:
        # Taken anew, as an optimizer or a move to a device may give a parameter other memory.
        return {name: self.watched[name].detach()[: len(part)] if part.ndim else self.watched[name].detach()
                for name, part in self.rows.items()}  # fmt: skip


class StepsWatch:
    """Watches the first ``STEPS`` optimizer steps of the run, without making any of them wait for the device.

    It begins with the first training loader of a run that is not resumed, and ends with it at the latest. What an
    optimizer gets is seen by hooks, which are removed at the end; what is computed is a few norms a step. With a
    ``DictRunner`` gradients are those of the whole step before clipping; with other runners those that the optimizer
    gets, so that ``grad_norm`` is None where a callback of Catalyst's clips them. Optimizers that step in one batch
    make one step together; one that steps again begins the next. The loss is that of this rank.

    Call ``on_loader_start``, ``on_batch_start``, ``on_batch_end`` and ``on_loader_end`` of it in the events of a
    callback that runs after those that step the optimizer, and ``release`` when the run ends in any way. ``probe`` is
    what was seen, from one batch after the last watched step on.

    Args:
        most: how many steps to watch.
        sample_id_key: of the ids in a batch.
    """

    def __init__(self, most: int = STEPS, *, sample_id_key: str | int = SAMPLE_ID_KEY):
        self.most, self.sample_id_key = most, sample_id_key
        self.probe: StepsProbe | None = None
        self._began = False
        self._steps: list[_Step] = []
        self._open: _Step | None = None
        self._inputs: list[BrokenInputs] = []  # of the batches since the last step
        self._watches: dict[str, _OptimizerWatch] = {}
        self._hooks: list[RemovableHandle] = []
        self._modes: LayerModes | None = None
        self._moved: Callable[[], bool | None] | None = None
        self._watched: set[str] = set()
        self._sees_all = self._clips = self._keeps_often = False

    @property
    def watches(self) -> bool:
        """Whether it is watching steps now."""
        return bool(self._hooks)

    # -- events ---------------------------------------------------------------------------------------------------

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Begin with the first training loader of the run."""
        if self._began or not runner.is_train_loader:
            return
        self._began = True
        if is_resumed(runner) or runner.epoch_step > 1:
            return
        self._attach(runner)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        """Read what was seen, where the last step is one batch ago; look at the batch."""
        self._read()
        if self._hooks:
            self._inputs.append(BrokenInputs(runner.batch, self.sample_id_key))

    def on_batch_end(self, runner: dl.IRunner) -> None:
        """Take note of the loss of the steps of this batch, and stop after the last one."""
        if not self._hooks:
            return
        loss = _loss_of(runner)
        for step in [*self._steps, *([] if self._open is None else [self._open])]:
            if step.loss is None:
                step.loss = loss
        if len(self._steps) + (self._open is not None) >= self.most:
            self._stop()

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """End with the loader."""
        if self._hooks:
            self._stop()
        self._read()

    def release(self) -> None:
        """Remove all hooks; what was seen so far is lost where the loader has not ended."""
        for hook in self._hooks:
            hook.remove()
        for watch in self._watches.values():
            if watch.stale is not None:
                watch.stale.remove()
        self._hooks, self._watches = [], {}

    # -- the hooks ------------------------------------------------------------------------------------------------

    def _attach(self, runner: dl.IRunner) -> None:
        parameters = trained_parameters(runner)
        hooks = not is_compiled(runner)
        for name, optimizer in raw_optimizers(runner.optimizer).items():
            self._watches[name] = _OptimizerWatch(held_by(optimizer, parameters), hooks=hooks)
            self._hooks.append(optimizer.register_step_pre_hook(partial(self._before_step, runner, name)))
            self._hooks.append(optimizer.register_step_post_hook(partial(self._after_step, name)))
        register = gradient_hooks_of(runner)
        self._sees_all = register is not None
        if register is not None and self._hooks:
            self._hooks.append(register(partial(self._before_all, runner)))
        self._clips = not self._sees_all and clips_in_callbacks(callbacks_of(runner))
        self._keeps_often = sum(watch.numbers for watch in self._watches.values()) <= _LITTLE
        self._modes = LayerModes(runner)

    def _before_all(self, runner: dl.IRunner) -> None:
        """Look at all gradients before they are clipped, where a runner has hooks for that."""
        step = self._begin(runner)
        for watch in self._watches.values():
            self._look(step, watch, None)

    def _before_step(self, runner: dl.IRunner, name: str, optimizer: Optimizer, *_: Any) -> None:
        step = self._open
        # The gradient hook has begun the step of a runner that has one.
        if step is None or name in step.optimizers:
            step = self._begin(runner)
        step.optimizers.add(name)
        step.lr += [_rate(group["lr"]) for group in optimizer.param_groups]
        watch = self._watches[name]
        if not self._sees_all:
            self._look(step, watch, optimizer)
        if watch.stale is not None:
            found = watch.stale.take()
            # Before the first step nothing can be left of one before.
            step.stale += [found] if watch.steps else []
        watch.steps += 1
        if self._keeps_often or len(self._steps) + 1 in _SPARSE:
            step.weights.append(watch.keep_weights())

    def _after_step(self, name: str, *_: Any) -> None:
        watch = self._watches[name]
        if watch.keeps and self._open is not None:
            self._open.updates.append(watch.measure_updates())

    def _begin(self, runner: dl.IRunner) -> _Step:
        """Begin a step; the one before has ended with it."""
        if self._open is not None:
            self._steps.append(self._open)
        if self._modes is not None and len(self._steps) < _MODES_AT:
            self._modes.look()
        self._open, self._inputs = _Step(inputs=self._inputs), []
        scale = loss_scale(runner)
        if scale is not None:
            self._open.scale = HostCopy(scale, own=True)
        return self._open

    def _look(self, step: _Step, watch: _OptimizerWatch, optimizer: Optimizer | None) -> None:
        gradients = {name: one.grad for name, one in watch.parameters.items() if one.grad is not None}
        dense = {
            name: one for name, one in gradients.items() if one.layout is torch.strided and one.is_floating_point()
        }
        step.all_seen &= len(dense) == len(gradients)
        # A fused optimizer unscales within its step, so its gradients are still scaled here.
        scale = getattr(optimizer, "grad_scale", None)
        with torch.no_grad():
            step.gradients.append((Norms(dense), HostCopy(scale) if isinstance(scale, Tensor) else None))

    # -- what was seen --------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        if self._open is not None:
            self._steps.append(self._open)
        self._open = None
        if self._modes is not None:
            self._moved = self._modes.moved()
        self._watched = {name for watch in self._watches.values() for name in watch.watched}
        self.release()

    def _read(self) -> None:
        if self._moved is None or self._modes is None:
            return
        found: list[StepProbe] = []
        for step in self._steps[: self.most]:
            found.append(self._probe(step, found[-1].loss if found else math.nan))
        if found:
            self.probe = StepsProbe(tuple(found), buffers_moved=self._moved(), modes=self._modes.evaluating)
        self._steps, self._moved, self._modes, self._inputs = [], None, None, []

    def _probe(self, step: _Step, last_loss: float) -> StepProbe:
        # A rank may make a step without a batch of its own.
        loss = last_loss if step.loss is None else _number(step.loss)
        norms: dict[str, float] = {}
        for found, scale in step.gradients:
            factor = 1.0 if scale is None else _number(scale)
            norms |= {name: norm / factor for name, norm in found.read().items()}
        total = math.sqrt(sum(norm**2 for norm in norms.values())) if norms else None
        return StepProbe(
            loss=loss,
            grad_norm=total if step.all_seen and not self._clips else None,
            lr=tuple(map(_number, step.lr)),
            update=_merged(step.updates),
            weight=_merged(step.weights),
            grads={name: norm for name, norm in norms.items() if name in self._watched},
            not_zeroed=any(is_stale() for is_stale in step.stale),
            # A loss that nobody names is NaN, and tells nothing.
            finite=(step.loss is None or math.isfinite(loss)) and (total is None or math.isfinite(total)),
            scale=None if step.scale is None else _number(step.scale),
            broken={key: names for batch in step.inputs for key, names in batch.read().items()},
        )


def _merged(parts: list[Norms]) -> dict[str, float]:
    return {name: norm for part in parts for name, norm in part.read().items()}


def _number(value: float | HostCopy) -> float:
    if not isinstance(value, HostCopy):
        return value
    number: Any = value.read().tolist()  # of a tensor without axes it is a number
    return float(number)


def _rate(rate: Any) -> float | HostCopy:
    # Copied, as a schedule changes a tensor in place.
    return HostCopy(rate) if isinstance(rate, Tensor) else float(rate)


def _loss_of(runner: dl.IRunner) -> float | HostCopy | None:
    """Return the loss of the batch, by the name that it has; None where no metric is called a loss."""
    metrics = runner.batch_metrics
    names = ["loss", supervised_keys(runner)[2], *(name for name in metrics if "loss" in str(name))]
    value = next((metrics[name] for name in names if name in metrics), None)
    if isinstance(value, Tensor):
        return HostCopy(value.detach().reshape(-1)[0]) if value.numel() == 1 else None
    with suppress(TypeError, ValueError):
        return None if value is None else float(value)
    return None


def is_compiled(runner: dl.IRunner) -> bool:
    """Whether a part of a model is compiled: a hook on a parameter might make it compile anew."""
    models = by_name(runner.model).values()
    parts = [part for model in models for part in model.modules()]
    return any(hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None for part in parts)
