"""``AverageWatch``: how far the weights that are validated have come from where they began, beside the trained ones."""

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel
from torch.utils.hooks import RemovableHandle

from ....support.host_copy import HostCopy
from ....support.runner_view import callbacks_of, is_resumed
from ....support.unwrap import by_name, inside, plain_modules
from ...probe.epoch_probe import AverageProbe
from .steps import is_compiled
from .watched import choose_watched

_NUMBERS = 2_000  # of each parameter that are compared


class AverageWatch:
    """Compares the weights that are validated with those that are trained, in the first epochs.

    They differ where a moving average is validated: in the place of the weights, whoever puts it there, or as a copy of
    the model that the runner or a callback holds, such as torch's ``AveragedModel``. A copy that takes part in training
    as well, as a teacher does, is none. What a forward pass of validation goes through is seen by hooks.

    Call its events in those of a callback, and ``take`` at the end of an epoch; ``release`` when the run ends.

    Args:
        epochs: up to which epoch to watch.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self._initial: dict[str, dict[str, Tensor]] = {}
        self._trained: dict[str, dict[str, Tensor]] = {}
        self._hooks: list[RemovableHandle] = []
        self._teachers: set[int] = set()
        self._validated: dict[int, tuple[str, float | None, HostCopy]] = {}

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Keep some of the initial weights, and begin to look at what is called."""
        if runner.epoch_step > self.epochs or runner.is_infer_loader or is_compiled(runner):
            return
        if runner.is_train_loader and runner.epoch_step == 1 and not self._initial and not is_resumed(runner):
            self._initial = {key: _some_of(module) for key, module in plain_modules(runner).items()}
        if self._initial and (runner.is_train_loader or self._trained):
            self._attach(runner)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """Keep some of the weights that training has led to."""
        self.release()
        if runner.is_train_loader and self._initial and runner.epoch_step <= self.epochs:
            self._trained = {key: _some_of(module) for key, module in plain_modules(runner).items()}

    def take(self) -> AverageProbe | None:
        """Return what was validated, and begin the next epoch; None where it was the trained weights."""
        found = [(name, decay, *copy.read().tolist()) for name, decay, copy in self._validated.values()]
        self._validated, self._trained = {}, {}
        parts = [
            AverageProbe(name, moved / trained, decay) for name, decay, moved, trained, apart in found
            if trained and apart
        ]  # fmt: skip
        return min(parts, key=lambda one: one.moved, default=None)

    def release(self) -> None:
        """Remove all hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _attach(self, runner: dl.IRunner) -> None:
        trains = bool(runner.is_train_loader)
        for key, module in plain_modules(runner).items():
            for name, decay, twin in [("", None, module), *_twins(runner, module)]:
                look = partial(self._look, key, name, decay, trains and twin is not module, not trains)
                self._hooks.append(twin.register_forward_pre_hook(look))

    def _look(
        self, key: str, name: str, decay: float | None, teaches: bool, validates: bool, module: nn.Module, *_: Any
    ) -> None:
        if teaches:
            self._teachers.add(id(module))
        if not validates or id(module) in self._validated or id(module) in self._teachers:
            return
        distances = _distances(self._initial[key], self._trained.get(key, {}), _some_of(module))
        if distances is not None:
            self._validated[id(module)] = (name, decay, HostCopy(distances, own=True))


def _some_of(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of some numbers of parameters, by name, of which some may not train."""
    chosen = choose_watched({name: one for name, one in module.named_parameters() if _is_plain(one)})
    return {name: _first(one.detach()).clone() for name, one in chosen.items()}


def _is_plain(parameter: nn.Parameter) -> bool:
    return not is_lazy(parameter) and parameter.layout is torch.strided and parameter.numel() > 0


def _first(values: Tensor) -> Tensor:
    if values.numel() <= _NUMBERS or not values.ndim:
        return values
    rows = _NUMBERS // values[0].numel()
    return values[:rows] if rows else _first(values[0])


def _distances(initial: Mapping[str, Tensor], trained: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Any:
    """Return how far ``now`` and ``trained`` are from the start, and from each other, [3]; None: nothing is shared."""
    names = [name for name in initial if name in trained and name in now and initial[name].shape == now[name].shape]
    if not names:
        return None
    pairs = ((now, initial), (trained, initial), (now, trained))
    with torch.no_grad():
        return torch.stack([_distance([(one[name], other[name]) for name in names]) for one, other in pairs])


def _distance(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    norms = [torch.linalg.vector_norm(one.float() - other.to(one.device).float()) for one, other in pairs]
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return total


def _twins(runner: dl.IRunner, module: nn.Module) -> Iterator[tuple[str, float | None, nn.Module]]:
    """Yield the modules of the same parameters that the run, a callback or a dict of theirs holds, with their names."""
    shapes = _shapes(module)
    seen = {id(one) for one in plain_modules(runner).values()}
    for name, part in _held(runner):
        found = _innermost(part)
        if id(found) not in seen and _shapes(found) == shapes:
            seen.add(id(found))
            yield name, _decay_of(part), found


def _held(runner: dl.IRunner) -> Iterator[tuple[str, nn.Module]]:
    holders = [("", runner), *((f"{type(one).__name__}.", one) for one in map(inside, callbacks_of(runner)))]
    for owner, holder in holders:
        for name, part in vars(holder).items():
            yield from ((f"{owner}{name}", one) for one in _modules_in(part))
    yield from by_name(runner.model).items()


def _modules_in(part: Any) -> list[nn.Module]:
    """Return a module, or those that a dict or a simple object, such as a class for averages, holds."""
    if isinstance(part, nn.Module):
        return [part]
    if isinstance(part, dl.IRunner | dl.Callback | type):
        return []
    held = part.values() if isinstance(part, dict) else getattr(part, "__dict__", {}).values()
    return [one for one in held if isinstance(one, nn.Module)]


def _innermost(module: nn.Module) -> nn.Module:
    """Return what a wrapper such as torch's ``AveragedModel`` holds, which may be called without it."""
    inner = getattr(module, "module", None)
    names = [name for name, _ in module.named_parameters()]
    return inner if isinstance(inner, nn.Module) and all(name.startswith("module.") for name in names) else module


def _decay_of(module: nn.Module) -> float | None:
    """Return the decay of torch's ``AveragedModel``, which has no warm-up; None where it is another average."""
    if not isinstance(module, AveragedModel):
        return None
    function = module.multi_avg_fn or module.avg_fn
    cells = () if function is None else getattr(inspect.unwrap(function), "__closure__", None) or ()
    return next((it.cell_contents for it in cells if isinstance(it.cell_contents, float)), None)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: one.shape for name, one in module.named_parameters() if _is_plain(one)}
