"""Copies of a run's models and criteria, without what callbacks have attached to them, and without other ranks."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from catalyst import dl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ....support.runner_view import criterion_of
from ....support.unwrap import plain_modules


def copied_parts(runner: dl.IRunner) -> tuple[dict[str, nn.Module], Any]:
    """Return copies of the models by name, as the user built them, and of the criterion.

    Raises:
        Exception: of any kind, where a part cannot be copied.
    """
    plain = plain_modules(runner)
    foreign = [_owner(hook) for module in _modules(plain) for hooks in _hooks(module) for hook in hooks.values()]
    # What a hook or a model may refer to stays one and the same, however much of the run hangs on it.
    stays = [runner, runner.engine, runner.loaders, runner.loggers, *runner.callbacks.values(), *foreign]
    models, criterion = copy.deepcopy(
        (plain, criterion_of(runner)), {id(one): one for one in stays if one is not None and not _is_own(one)}
    )
    for module in _modules(models):
        _drop_foreign_hooks(module)
        if isinstance(module, nn.SyncBatchNorm):
            # Its forward pass waits for the other ranks, which are not asked to take part.
            module.forward = MethodType(_BatchNorm.forward, module)  # type: ignore[method-assign]
    return models, criterion


def _modules(models: dict[str, nn.Module]) -> list[nn.Module]:
    return [module for model in models.values() for module in model.modules()]


def _hooks(module: nn.Module) -> list[dict[int, Any]]:
    return [value for name, value in vars(module).items() if name.endswith("_hooks") and isinstance(value, dict)]


def _owner(hook: Any) -> Any:
    hook = hook.func if isinstance(hook, partial) else hook
    return getattr(hook, "__self__", None)


def _is_own(owner: Any) -> bool:
    """Whether a hook of it is part of a model, as that of a lazy module or of a spectral norm."""
    return isinstance(owner, nn.Module) or type(owner).__module__.startswith("torch.nn")


def _drop_foreign_hooks(module: nn.Module) -> None:
    for hooks in _hooks(module):
        for key, hook in [*hooks.items()]:
            watches = isinstance(_owner(hook), dl.Callback | dl.IRunner)
            named = getattr(hook, "__module__", "") or ""
            if watches or named.startswith("assay.callbacks"):
                del hooks[key]


@contextmanager
def alone(ranks: int) -> Iterator[None]:
    """Have what is computed take this rank for the only one, as others do not take part; a collective raises."""
    with ExitStack() as stack:
        for module in (dist, dist.distributed_c10d) if ranks > 1 else ():
            stack.callback(setattr, module, "is_initialized", module.is_initialized)
            setattr(module, "is_initialized", lambda: False)  # noqa: B010 - mypy knows no such name of a module
        yield


@contextmanager
def eager(models: dict[str, nn.Module]) -> Iterator[None]:
    """Have parts of models that are compiled run as they are written: compiling anew would take long."""
    if not any(hasattr(module, "_orig_mod") for module in _modules(models)):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
