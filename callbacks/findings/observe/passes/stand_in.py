"""``StandIn``: takes a batch the way that a runner does, with copies of the runner's parts."""

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from types import MethodType
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn

from ....support.runner_view import attributes_of, callbacks_of, forward_of, loss_terms, named_batch
from ....support.unwrap import by_name, inside, plain_modules
from .batches import samples_in
from .copies import copied_parts


class IdleOptimizer:
    """An optimizer, or a scheduler, that changes nothing.

    Args:
        groups: of parameters, as they are shown.
    """

    def __init__(self, groups: list[dict[str, Any]]):
        self.param_groups = groups
        self.state: dict[Any, Any] = {}

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    zero_grad = step

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group."""
        return [float(group.get("lr", 0.0)) for group in self.param_groups]


class IdleEngine:
    """An engine whose backward pass is plain, so that no state of the real one changes.

    Args:
        engine: the real one, of which everything else is asked.
        seen: called with each loss before its backward pass.
    """

    def __init__(self, engine: Any, seen: Callable[[Tensor], None]):
        self.real, self.seen = engine, seen

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Run the backward pass."""
        self.seen(loss)
        loss.backward(**kwargs)  # type: ignore[no-untyped-call]

    def prepare(self, *parts: Any, **kwargs: Any) -> Any:
        """Return parts as they are."""
        return parts[0] if len(parts) == 1 else parts

    def unscale_gradients(self, *args: Any) -> None:
        """Do nothing: nothing was scaled."""

    def clip_grad_norm_(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: gradients are looked at before they are clipped."""

    clip_grad_value_ = clip_grad_norm_

    def accumulate(self, *args: Any) -> Any:
        """Return a context that does nothing."""
        return nullcontext()

    no_sync = accumulate


class StandIn:
    """Copies of a runner's models and criterion, and the runner's own way from a batch to outputs and loss.

    Args:
        runner: of a run that has started.

    Attributes:
        models: copies by name.
        criterion: a copy; one, or several by name.
        kind: ``declared`` where the runner declares its terms, ``supervised`` where callbacks compute them, or ``own``.
        losses: those of which a backward pass was asked.

    Raises:
        Exception: of any kind, where a part cannot be copied.
    """

    def __init__(self, runner: dl.IRunner):
        self.real = runner
        self.models, self.criterion = copied_parts(runner)
        self.kind = kind_of(runner)
        self.losses: list[Tensor] = []
        self.runner: Any = self._made(runner)

    def _made(self, runner: dl.IRunner) -> Any:
        stand = object.__new__(type(runner))
        stand.__dict__.update(attributes_of(runner))
        stand.model = dict(self.models) if isinstance(runner.model, Mapping) else self.models[""]
        stand.criterion = self.criterion
        stand.engine = IdleEngine(runner.engine, self.losses.append)
        stand.callbacks, stand.loggers = {}, {}
        for name, value in attributes_of(runner).items():
            if isinstance(value, MethodType) and value.__self__ is runner:
                stand.__dict__[name] = MethodType(value.__func__, stand)
        if self.kind == "own":
            self._copy_own_parts(stand)
        return stand

    def _copy_own_parts(self, stand: Any) -> None:
        """Give the stand-in copies of what a user's class keeps, and optimizers that change nothing."""
        of_copy = twins(self.real, self.models)
        for name, part in {"optimizer": self.real.optimizer, "scheduler": self.real.scheduler}.items():
            idle = {key: IdleOptimizer(_groups(one, of_copy)) for key, one in by_name(part).items()}
            setattr(stand, name, idle.get("") if "" in idle else idle or None)
        known = attributes_of(dl.SupervisedRunner()).keys()
        stays = [self.real.engine, self.real.loaders, *by_name(self.real.loaders).values()]
        memo = {id(one): one for one in stays} | {id(self.real): stand, id(self.real.criterion): self.criterion}
        for key, model in by_name(self.real.model).items():
            memo[id(model)] = self.models[key]
        for name, value in attributes_of(self.real).items():
            if name not in known and not isinstance(value, MethodType):
                stand.__dict__.pop(name)  # what cannot be copied is missing, rather than changed
                with suppress(Exception):
                    stand.__dict__[name] = copy.deepcopy(value, memo)

    def begin(self, key: str, *, trains: bool) -> None:
        """Set the modes of the copies, and what a runner knows of its loader, as it is in the first epoch."""
        stand = self.runner
        stand.loader_key, stand.epoch_step = key, 1
        stand.loader = self.real.loaders.get(key) if isinstance(self.real.loaders, Mapping) else None
        stand.is_train_loader, stand.is_valid_loader, stand.is_infer_loader = trains, not trains, False
        stand.batch_metrics, stand.loader_metrics = {}, {}
        stand.epoch_metrics = {"_epoch_": {}}
        self._set_modes(trains)
        if self.kind == "own" and type(stand).on_loader_start is not dl.Runner.on_loader_start:
            with suppress(Exception):  # of a user's own, which may rely on what is not there
                stand.on_loader_start(stand)
        self._set_modes(trains)

    def _set_modes(self, trains: bool) -> None:
        parts = [*self.models.values(), *by_name(self.criterion).values()]
        for part in parts:
            if isinstance(part, nn.Module):
                part.train(trains)

    def outputs(self, batch: Any) -> Mapping[str, Any]:
        """Return the named outputs for a batch, of a runner that has a ``forward``."""
        forward = forward_of(self.runner)
        return {} if forward is None else forward(batch)

    def handle(self, batch: Any) -> Exception | None:
        """Let the runner's own ``handle_batch`` take a batch; return the error that ended it."""
        stand = self.runner
        stand.batch, stand.batch_size = batch, samples_in(batch)
        stand.batch_step = stand.loader_batch_step = 1
        stand.sample_step = stand.loader_sample_step = stand.batch_size
        try:
            stand.handle_batch(batch)
        except Exception as error:  # noqa: BLE001 - of the user's code, which may need more than there is yet
            return error
        return None

    def named_batch(self, batch: Any) -> Any:
        """Return a batch as the runner's ``handle_batch`` gets it."""
        return named_batch(self.runner, batch)


def kind_of(runner: dl.IRunner) -> str:
    """Return how a runner comes to its loss, see ``StandIn.kind``."""
    if loss_terms(runner) is not None and forward_of(runner) is not None:
        return "declared"
    stock = isinstance(runner, dl.SupervisedRunner) and type(runner).handle_batch is dl.SupervisedRunner.handle_batch
    return "supervised" if stock else "own"


def twins(runner: dl.IRunner, models: Mapping[str, nn.Module]) -> dict[int, nn.Parameter]:
    """Return the copy of each parameter by the id of the parameter."""
    return {
        id(parameter): twin
        for key, model in plain_modules(runner).items()
        for parameter, twin in zip(model.parameters(), models[key].parameters(), strict=True)
    }


def _groups(optimizer: Any, twins: Mapping[int, nn.Parameter]) -> list[dict[str, Any]]:
    groups = getattr(optimizer, "param_groups", None) or getattr(optimizer, "optimizer", optimizer)
    found = groups if isinstance(groups, list) else getattr(groups, "param_groups", [])
    return [{**group, "params": [twins.get(id(one)) for one in group["params"]]} for group in found]


def criterion_callbacks(runner: dl.IRunner) -> list[Any]:
    """Return the callbacks that compute a loss by a criterion."""
    return [one for one in map(inside, callbacks_of(runner)) if isinstance(one, dl.CriterionCallback)]


def one_number(value: Any) -> Tensor | None:
    """Return a loss as one number, []; None where it is none."""
    is_number = isinstance(value, Tensor) and value.numel() == 1 and value.dtype != torch.bool
    return value.reshape(()) if is_number else None
