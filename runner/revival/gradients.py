"""Mends of the backward pass and the optimizer's step: clipping, accumulation, and logs of parameter groups."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from catalyst import dl
from catalyst.core.misc import get_original_callback
from catalyst.utils.torch import get_optimizer_momentum_list
from torch import nn
from torch.nn.utils import get_total_norm

from assay.callbacks.errors import UsageError
from assay.callbacks.support.runner_view import callbacks_of
from assay.callbacks.support.unwrap import by_name

from .fault import fault, is_mended


@fault()
def clipping() -> bool:
    """BackwardCallback(grad_clip_fn=...) fails, its log_gradient logs nothing, and OptimizerCallback never clips."""
    dl.BackwardCallback.on_batch_end = _go_backward
    dl.OptimizerCallback.on_batch_end = _count_batch
    return True


@fault(changes_numbers=True)
def accumulation() -> bool:
    """OptimizerCallback(accumulation_steps=n) sums gradients instead of averaging, and drops the last group."""
    dl.BackwardCallback.on_batch_end = _go_backward
    dl.OptimizerCallback.on_batch_end = _count_batch
    dl.OptimizerCallback.on_loader_end = _end_loader
    return True


@fault()
def groups() -> bool:
    """Only the learning rate and momentum of an optimizer's first parameter group are logged."""
    dl.OptimizerCallback._get_lr_momentum_stats = _log_optimizer
    dl.SchedulerCallback._update_lr_and_momentum_in_metrics_dict = _log_scheduler
    return True


@dataclass(frozen=True)
class _Place:
    """The number of batches of an optimizer step, and whether a batch is the last of them."""

    size: int
    is_last: bool


def _place_in_group(runner: Any, steps: int) -> _Place:
    if steps == 1:
        return _Place(1, is_last=True)
    # Catalyst counts the batches of all processes.
    number = runner.loader_batch_step // runner.engine.num_processes  # from 1
    first = (number - 1) // steps * steps
    size = min(steps, runner.loader_batch_len - first)
    return _Place(size, number == first + size)


def _go_backward(callback: Any, runner: Any) -> None:
    """Replace ``BackwardCallback.on_batch_end``."""
    if not runner.is_train_loader:
        return
    # Two faults replace this method: each part asks whether its own is to be mended.
    loss, place = runner.batch_metrics[callback.metric_key], _Place(1, is_last=True)
    if is_mended("accumulation"):
        place = _place_in_group(runner, _batches_per_step(runner, callback.metric_key))
    runner.engine.backward(loss / place.size)  # gradients add up: the sum over the group is the mean
    wanted = callback.grad_clip_fn is not None or callback._log_gradient
    if wanted and place.is_last and is_mended("clipping"):
        runner.engine.unscale_gradients()  # fp16 scales losses, and with them the norm to clip by
        norm = _clip_gradients(
            callback.grad_clip_fn, [p for model in by_name(runner.model).values() for p in model.parameters()]
        )
        if callback._log_gradient and norm is not None:
            runner.batch_metrics[f"{callback._prefix_gradient}/norm"] = norm


def _count_batch(callback: Any, runner: Any) -> None:
    """Replace ``OptimizerCallback.on_batch_end``: step after the last batch of a group."""
    if runner.is_train_loader:
        callback._accumulation_counter += 1
        if is_mended("accumulation"):
            is_last = _place_in_group(runner, callback.accumulation_steps).is_last
        else:
            is_last = callback._accumulation_counter % callback.accumulation_steps == 0
        if is_last:
            _make_step(callback, runner)
    runner.batch_metrics.update(callback._get_lr_momentum_stats())


def _make_step(callback: Any, runner: Any) -> None:
    if callback.grad_clip_fn is not None and is_mended("clipping"):
        runner.engine.unscale_gradients(callback.optimizer)
        parameters = [p for group in callback.optimizer.param_groups for p in group["params"]]
        _clip_gradients(callback.grad_clip_fn, parameters)
    callback.optimizer.step()
    callback.optimizer.zero_grad()
    if is_mended("accumulation"):  # the counter holds the batches of the group that is not stepped yet
        callback._accumulation_counter = 0


def _end_loader(callback: Any, runner: Any) -> None:
    """Replace ``OptimizerCallback.on_loader_end``: step for a group that ended early."""
    if runner.is_train_loader and callback._accumulation_counter:
        # The batches were weighted for a full group: weight them for those that came.
        share = _place_in_group(runner, callback.accumulation_steps).size / callback._accumulation_counter
        for group in callback.optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad *= share
        _make_step(callback, runner)
    runner.loader_metrics.update(callback._get_lr_momentum_stats())


def _batches_per_step(runner: Any, metric_key: str) -> int:
    """Return the number of batches per step of the optimizers that follow a loss."""
    callbacks = map(get_original_callback, callbacks_of(runner))
    steps = {
        callback.accumulation_steps
        for callback in callbacks
        if isinstance(callback, dl.OptimizerCallback) and callback.metric_key == metric_key
    }
    if len(steps) > 1:
        raise UsageError(
            f"accumulation_steps must be the same for all optimizers of the loss {metric_key!r}, got {sorted(steps)}."
        )
    return steps.pop() if steps else 1


def _clip_gradients(clip: Callable[[list[nn.Parameter]], Any] | None, parameters: list[nn.Parameter]) -> Any:
    """Clip the gradients; return their norm before, or None if the clipping function does not return it."""
    if clip is not None:
        return clip(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return get_total_norm(gradients) if gradients else None


def _log_optimizer(callback: Any) -> dict[str, float]:
    """Replace ``OptimizerCallback._get_lr_momentum_stats``."""
    rates = [group["lr"] for group in callback.optimizer.param_groups]
    momenta = get_optimizer_momentum_list(callback.optimizer)
    return _name_by_group(callback._prefix_lr, rates) | _name_by_group(callback._prefix_momentum, momenta)


def _log_scheduler(callback: Any, metrics: dict[str, float], rates: list[float], momenta: list[float | None]) -> None:
    """Replace ``SchedulerCallback._update_lr_and_momentum_in_metrics_dict``."""
    name = "" if callback.scheduler_key is None else f"/{callback.scheduler_key}"
    metrics |= _name_by_group(f"lr{name}", rates) | _name_by_group(f"momentum{name}", momenta)


def _name_by_group(name: str, values: Sequence[float | None]) -> dict[str, float]:
    """Name the values of parameter groups: the first as Catalyst does, the others with their number appended."""
    names = [name, *(f"{name}/{number}" for number in range(1, len(values)))]
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}
