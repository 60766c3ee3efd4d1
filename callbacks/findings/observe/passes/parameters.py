"""Parameters of models: their values, which of them an optimizer has, and those that torch does not see."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn

from ....support.runner_view import criterion_of
from ....support.unwrap import by_name, held_by, plain_modules, raw_optimizers
from ...probe.model_probe import ParameterProbe
from .recording import Recording, full_name, moments

_DEEP = 3  # nested lists and dicts that are looked through


def named_parameters(models: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Return the parameters of models by the names that the run calls them, each once."""
    return {
        full_name(key, name): parameter for key, model in models.items() for name, parameter in model.named_parameters()
    }


def optimized_names(runner: dl.IRunner) -> frozenset[str]:
    """Return the names of the parameters that an optimizer has."""
    parameters = named_parameters(plain_modules(runner))
    return frozenset(name for it in raw_optimizers(runner.optimizer).values() for name in held_by(it, parameters))


def criterion_left_out(runner: dl.IRunner) -> tuple[str, ...]:
    """Return the names of trainable parameters of criteria that no optimizer has.

    Those of torch's own layers are left out: they are of networks that a criterion compares by.
    """
    optimizers = raw_optimizers(runner.optimizer).values()
    held = {id(one) for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]}
    held |= {id(one) for model in plain_modules(runner).values() for one in model.parameters()}
    return tuple(
        f"{name}.{own}".strip(".")
        for criterion in by_name(criterion_of(runner)).values()
        if isinstance(criterion, nn.Module)
        for name, module in criterion.named_modules()
        if held and not type(module).__module__.startswith("torch.")
        for own, one in module.named_parameters(recurse=False)
        if one.requires_grad and id(one) not in held
    )


@torch.no_grad()
def observe_parameters(recording: Recording, optimized: frozenset[str]) -> tuple[ParameterProbe, ...]:
    """Return what is known of the parameters of the copies, after a pass."""
    named = {
        name: one
        for name, one in named_parameters(recording.models).items()
        if not isinstance(one, nn.UninitializedParameter)
    }
    numbers = on_host([_numbers(one, recording.grad_norms.get(id(one))) for one in named.values()])
    return tuple(
        _probe(name, one, name in optimized, id(one) in recording.grad_norms, row)
        for (name, one), row in zip(named.items(), numbers, strict=True)
    )


def on_host(rows: list[Tensor]) -> list[list[float]]:
    """Return rows of numbers, all of one length, read from the device in one go."""
    found: list[list[float]] = torch.stack(rows).cpu().tolist() if rows else []
    return found


def _numbers(parameter: Tensor, grad_norm: Tensor | None) -> Tensor:
    values = parameter.detach().float().flatten()
    grad = values.new_zeros(()) if grad_norm is None else grad_norm.float()
    if not len(values):
        return torch.stack([*values.new_zeros(7), grad])
    mean, std = moments(values)
    low, high = values.aminmax()
    alike = values.new_zeros(())
    if parameter.ndim > 1 and len(parameter) > 1:
        alike = (parameter == parameter[:1]).all().float()
    return torch.stack([mean, std, low, high, alike, values.norm(), values.isfinite().all().float(), grad])


def _probe(name: str, parameter: Tensor, optimized: bool, reached: bool, row: list[float]) -> ParameterProbe:
    mean, std, low, high, alike, norm, finite, grad = row
    return ParameterProbe(
        name, tuple(parameter.shape), str(parameter.dtype).removeprefix("torch."), parameter.requires_grad, optimized,
        mean, std, low, high, bool(alike), norm, grad if reached else None, bool(finite) or not parameter.numel(),
    )  # fmt: skip


def unseen_modules(models: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """Return modules and parameters in plain lists, tuples and dicts of modules, that train and nobody registers."""
    registered = {id(one) for model in models.values() for one in model.parameters()}
    found = []
    for key, model in models.items():
        for name, module in model.named_modules():
            for attribute, value in vars(module).items():
                # torch's own begin with an underscore and hold what is registered, or hooks.
                if attribute not in _OF_TORCH:
                    found += [full_name(key, f"{name}.{attribute}{it}".strip(".")) for it in _unseen(value, registered)]
    return tuple(dict.fromkeys(found))


_OF_TORCH = frozenset(vars(nn.Module()))


def _unseen(value: Any, registered: set[int], depth: int = 0) -> Iterator[str]:
    if depth >= _DEEP or not isinstance(value, list | tuple | dict):
        return
    for place, part in value.items() if isinstance(value, dict) else enumerate(value):
        if _trains_unseen(part, registered):
            yield f"[{place!r}]"
        else:
            yield from (f"[{place!r}]{further}" for further in _unseen(part, registered, depth + 1))


def _trains_unseen(part: Any, registered: set[int]) -> bool:
    parameters = [part] if isinstance(part, nn.Parameter) else []
    if isinstance(part, nn.Module):
        parameters = [*part.parameters()]
    return any(one.requires_grad and id(one) not in registered for one in parameters)


def looks_trained(models: Mapping[str, nn.Module]) -> bool:
    """Whether normalization layers are not as they begin, so that weights come from elsewhere."""
    return any(_is_used(module) for model in models.values() for module in model.modules())


def _is_used(module: nn.Module) -> bool:
    batches = getattr(module, "num_batches_tracked", None)
    if isinstance(batches, Tensor) and batches.numel() == 1 and int(batches) > 0:
        return True
    weight = getattr(module, "weight", None)
    norm = isinstance(module, nn.LayerNorm | nn.GroupNorm) and isinstance(weight, nn.Parameter)
    return bool(norm and weight.numel() > 1 and float(weight.detach().float().std()) > 1e-3)  # type: ignore[union-attr]
