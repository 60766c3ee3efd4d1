"""``observe_settings``: the settings of a run, of whatever runner."""

from typing import Any

from catalyst import dl

from ....base.trained_marks import is_frozen_on_purpose, is_loaded
from ....support.runner_view import (
    accumulated_batches,
    callbacks_of,
    clipping_norm,
    clipping_value,
    ema_decay_of,
    input_keys,
    precision_of,
)
from ....support.unwrap import by_name, inside, named_parameters, raw_optimizers
from ...probe.settings_probe import SettingsProbe
from .lr_plan import observe_plan
from .metrics import class_count, class_names, observe_metrics, task_of
from .monitors import observe_monitors
from .optimizers import observe_groups
from .terms import clips_of, observe_terms


def observe_settings(runner: dl.IRunner) -> SettingsProbe:
    """Return the settings of a run, from the start of the experiment on; what cannot be seen is empty.

    It reads the runner, its optimizers, its schedulers and its callbacks, and changes nothing: the schedule is planned
    on a copy without weights. Of a runner with a ``handle_batch`` of its own, the terms of the loss are not known. Of
    a resumed run, the plan is that of the epochs that are left.

    Args:
        runner: after its ``on_experiment_start``, as callbacks see it in theirs.
    """
    callbacks = callbacks_of(runner)
    terms, metrics, names = observe_terms(runner), observe_metrics(runner), class_names(runner)
    accumulate, per_epoch = _accumulated(runner), _steps_per_epoch(runner)
    epochs = int(runner.num_epochs)
    left = max(1, epochs - int(runner.epoch_step))
    plan = observe_plan(runner, left, per_epoch)
    moment = plan.moment or "epoch"
    norm, value = clips_of(callbacks)
    parameters = named_parameters(runner)
    of_experiment = any(type(inside(one)).__name__ == "KnownMonitors" for one in callbacks)
    return SettingsProbe(
        runner=type(runner).__name__,
        of_experiment=of_experiment,
        epochs=epochs,
        batch_size=_batch_size(runner),
        accumulate_steps=accumulate,
        steps_per_epoch=per_epoch,
        clip_grad_norm=norm if (own := clipping_norm(runner)) is None else own,
        clip_grad_value=value if (own := clipping_value(runner)) is None else own,
        optimizer=", ".join(type(one).__name__ for one in raw_optimizers(runner.optimizer).values()),
        groups=observe_groups(runner),
        lr_plan=plan.factors.get(moment, ()) if plan.moment else (),
        lr_plans=plan.factors,
        scheduler=plan.name,
        scheduler_step=moment,
        scheduler_length=plan.length,
        monitors=observe_monitors(runner),
        input_keys=tuple(input_keys(runner)),
        terms=terms,
        metrics=metrics,
        class_names=names,
        num_classes=class_count(metrics, names),
        precision=precision_of(runner),
        task=task_of(metrics, terms, callbacks),
        ema_decay=ema_decay_of(runner),
        ranks=int(runner.engine.num_processes),
        frozen_on_purpose=frozenset(name for name, it in parameters.items() if is_frozen_on_purpose(it)),
        loaded=frozenset(name for name, it in parameters.items() if is_loaded(it)),
        fields=dict(runner.hparams) if of_experiment else {},
    )


def _train_loaders(runner: dl.IRunner) -> list[Any]:
    return [loader for key, loader in by_name(runner.loaders).items() if key.startswith("train")]


def _accumulated(runner: dl.IRunner) -> int:
    """Return how many batches make a step, as the runner gathers them or Catalyst's callback does."""
    optimizing = [one for one in map(inside, callbacks_of(runner)) if isinstance(one, dl.OptimizerCallback)]
    return max([accumulated_batches(runner), *(int(one.accumulation_steps) for one in optimizing)])


def _steps_per_epoch(runner: dl.IRunner) -> int:
    steps = [-(-_batches(loader) // _accumulated(runner)) for loader in _train_loaders(runner)]
    return max(1, sum(steps))


def _batches(loader: Any) -> int:
    try:
        batches: int = len(loader)
    except TypeError:  # of a data set that does not know its length
        return 1
    return batches


def _batch_size(runner: dl.IRunner) -> int | None:
    """Return the samples of a batch of the first loader for training, on one rank."""
    for part in _train_loaders(runner)[:1]:
        while part is not None:
            size = getattr(part, "batch_size", None)
            if isinstance(size, int):
                return size
            part = getattr(part, "batch_sampler", None)
    return None
