"""A runner's models, optimizers and callbacks without what wraps them: DDP, ``torch.compile``, accelerate, Catalyst."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from catalyst import dl
from catalyst.core.callback import CallbackWrapper
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import Dataset

from .runner_view import criterion_of

_LONGEST_LIST = 1000  # longer lists hold samples, not data sets


def by_name(part: Any) -> dict[str, Any]:
    """Return one component or several by name as a dict; the only one is called ``""``, and None gives an empty one."""
    if part is None:
        return {}
    return dict(part) if isinstance(part, Mapping) else {"": part}


def plain_modules(runner: dl.IRunner) -> dict[str, nn.Module]:
    """Return a runner's models by name, ``""`` for the only one, as the modules that the user built.

    They stand without DDP, whose forward pass talks to the other ranks, and without ``torch.compile``, which passes
    hooks by. Mixed precision stays, as it is a part of a module's own ``forward``.
    """
    return {name: plain_module(runner.engine, model) for name, model in by_name(runner.model).items()}


@contextmanager
def use_plain_modules(runner: dl.IRunner) -> Iterator[dict[str, nn.Module]]:
    """Have the runner use its plain modules, which are handed out by name; afterwards it has its models again."""
    models, plain = runner.model, plain_modules(runner)
    runner.model = dict(plain) if isinstance(models, Mapping) else plain[""]
    try:
        yield plain
    finally:
        runner.model = models


def plain_module(engine: Any, model: nn.Module) -> nn.Module:
    """Return a model as the user built it, see ``plain_modules``."""
    # accelerate's function is not shown a compiled model: it would take DDP out of that one for good.
    inner = _without_wrapper(engine, getattr(model, "_orig_mod", model))
    return getattr(inner, "_orig_mod", inner)


def without_ddp(engine: Any, model: nn.Module) -> nn.Module:
    """Return a model without DDP, but as it is compiled, and so with the mixed precision around that."""
    compiled = getattr(model, "_orig_mod", None)
    if compiled is None:
        return _without_wrapper(engine, model)
    inner = _without_wrapper(engine, compiled)
    return model if inner is compiled else inner


def _without_wrapper(engine: Any, model: nn.Module) -> nn.Module:
    # Each validation step asks. accelerate looks for packages on the disk, and through all modules, before it looks at
    # the model; all wrappers that it takes off have this attribute.
    return engine.unwrap_model(model) if hasattr(model, "module") else model


def weights_of(model: nn.Module) -> dict[str, Any]:
    """Return the state of a plain module by the names that it has where no part of it is compiled."""
    return {eager_name(name): value for name, value in model.state_dict().items()}


def load_weights(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load what ``weights_of`` returned, of a module with the same parts, whichever of them are compiled.

    Raises:
        RuntimeError: the state does not fit, as torch says it.
    """
    # Both sides by eager names: torch.compile adds _orig_mod to every name, and a run may be resumed without it.
    own = {eager_name(name): name for name in model.state_dict()}
    names = (own.get(eager_name(name), name) for name in state)
    model.load_state_dict(dict(zip(names, state.values(), strict=True)))


def eager_name(name: str) -> str:
    """Return the name of a parameter or a module that it has where no part of the model is compiled."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def named_parameters(runner: dl.IRunner) -> dict[str, nn.Parameter]:
    """Return all parameters by name, in the order of the model, each once; frozen and empty ones too.

    Those of several models are called ``MODEL.NAME``; those of a criterion follow, as ``criterion.NAME``.
    """
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for key, model in (*plain_modules(runner).items(), *_criteria(runner)):
        for name, parameter in model.named_parameters():
            full = f"{key}.{name}" if key else name
            # By identity: a shared parameter is trained once, under its first name.
            found.setdefault(id(parameter), (eager_name(full), parameter))
    return dict(found.values())


def trained_parameters(runner: dl.IRunner) -> dict[str, nn.Parameter]:
    """Return the parameters of ``named_parameters`` without frozen and empty ones."""
    return {
        name: parameter
        for name, parameter in named_parameters(runner).items()
        # One that is made in the first forward pass has no size before.
        if parameter.requires_grad and not is_lazy(parameter) and parameter.numel()
    }


def _criteria(runner: dl.IRunner) -> list[tuple[str, nn.Module]]:
    named = by_name(criterion_of(runner)).items()
    return [(f"criterion.{key}".rstrip("."), part) for key, part in named if isinstance(part, nn.Module)]


def held_by(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return those of the parameters that the optimizer trains."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in parameters.items() if id(parameter) in held}


def raw_optimizers(optimizer: Any) -> dict[str, Optimizer]:
    """Return a runner's optimizers by name, ``""`` for the only one; none for None.

    What accelerate wraps around an optimizer refuses hooks, so each is taken out.
    """
    return {name: _raw(part) for name, part in by_name(optimizer).items()}


def _raw(optimizer: Any) -> Optimizer:
    inner = getattr(optimizer, "optimizer", None)
    return _raw(inner) if isinstance(inner, Optimizer) else optimizer


def detached(part: Any) -> Any:
    """Return a part of a batch without the graph of its tensors, through nested dicts and lists."""
    if isinstance(part, Mapping):
        return {name: detached(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [detached(value) for value in part]
    return part.detach() if isinstance(part, Tensor) else part


def inside(callback: Any) -> Any:
    """Return the callback itself, without what Catalyst wraps around it."""
    while isinstance(callback, CallbackWrapper):  # wrappers nest
        callback = callback.callback
    return callback


def listening(callbacks: Iterable[Any]) -> list[Any]:
    """Return the callbacks without their wrappers, but those that a wrapper keeps from the loader that runs."""
    return [inside(callback) for callback in callbacks if _is_listening(callback)]


def _is_listening(callback: Any) -> bool:
    while isinstance(callback, CallbackWrapper):
        if not callback._is_enabled:
            return False
        callback = callback.callback
    return True


def data_sets(dataset: Any) -> list[Any]:
    """Return a data set and all data sets in its attributes, also in lists and dicts, at any depth.

    What has a ``set_epoch`` counts as one.
    """
    found = {id(dataset): dataset}
    waiting = [dataset]
    while waiting:
        inside = {id(part): part for part in _data_sets_of(waiting.pop())}
        waiting += [part for key, part in inside.items() if key not in found]
        found |= inside
    return list(found.values())


def _data_sets_of(dataset: Any) -> list[Any]:
    found: list[Any] = []
    for value in list(getattr(dataset, "__dict__", {}).values()):
        values = value.values() if isinstance(value, dict) else value
        if not isinstance(value, list | tuple | dict) or len(value) > _LONGEST_LIST:
            values = [value]
        found += [one for one in values if isinstance(one, Dataset) or hasattr(type(one), "set_epoch")]
    return found
