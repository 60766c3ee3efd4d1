"""Whether samples of a batch influence each other in evaluation mode, and whether they make a difference at all."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from .batches import cut, rebuilt
from .outputs import named_parts, tensors_of
from .recording import ModelCall

_SAMPLES = 4
_SMALL = 3 * 160 * 160  # numbers per sample; of larger ones two do
_OUTPUTS = 4  # of a model that are looked at, as each needs a backward pass
_ALIKE = 1e-6  # of the largest value: what rounding makes of equal samples


def observe_influence(
    models: Mapping[str, nn.Module], calls: list[ModelCall], keys: Any
) -> tuple[dict[str, float | None], dict[str, bool]]:
    """Return the leak of each output, and whether it is the same for all samples.

    Args:
        models: copies, by name, in any mode; they are in evaluation mode afterwards.
        calls: of the training pass, whose inputs are used again.
        keys: of outputs, where a runner names them.
    """
    leaks: dict[str, float | None] = {}
    constant: dict[str, bool] = {}
    for model in models.values():
        model.eval()
    for call in _first_calls(calls):
        with suppress(Exception):  # a model may take another way in evaluation mode, and other inputs
            _observe_call(models[call.key], call, keys, leaks, constant)
    return leaks, constant


def _first_calls(calls: list[ModelCall]) -> list[ModelCall]:
    first: dict[str, ModelCall] = {}
    for call in calls:
        first.setdefault(call.key, call)
    return [*first.values()]


def _observe_call(
    model: nn.Module, call: ModelCall, keys: Any, leaks: dict[str, float | None], constant: dict[str, bool]
) -> None:
    inputs = [one for one in _floats((call.args, call.kwargs)) if one.ndim]
    size = len(inputs[0]) if inputs else 0
    if size < 2:
        return
    count = min(size, _SAMPLES if inputs[0][0].numel() <= _SMALL else 2)
    leaves: list[Tensor] = []
    args = _leaves(cut(call.args, 0, count, size), leaves, count)
    kwargs = _leaves(cut(call.kwargs, 0, count, size), leaves, count)
    if not leaves:
        return
    with torch.enable_grad():
        output = model(*args, **kwargs)
    found = tensors_of(dict(named_parts(output, call.key or "output", keys)))
    of_samples = {key: one for key, one in found.items() if one.ndim and len(one) == count}
    differ = any(not _rows_alike(leaf.detach()) for leaf in leaves)
    for key, one in [*of_samples.items()][:_OUTPUTS]:
        leaks[key] = _leak(one, leaves)
        if differ and one.is_floating_point():
            constant[key] = _rows_alike(one.detach())


def _leak(output: Tensor, leaves: list[Tensor]) -> float | None:
    """Return the share of the squared gradient of one sample's output that is at other samples; None: there is none."""
    if not output.requires_grad:
        return None
    own = len(output) // 2
    numbers = output[own].float()
    # Random factors, as the plain sum over classes has no gradient after a softmax.
    factors = torch.randn(numbers.shape, generator=torch.Generator().manual_seed(0)).to(numbers.device)
    grads = torch.autograd.grad((numbers * factors).sum(), leaves, retain_graph=True, allow_unused=True)
    squares = [grad.float().square().flatten(1).sum(dim=1) for grad in grads if grad is not None]
    if not squares:
        return None
    per_sample = torch.stack(squares).sum(dim=0).double()
    total = float(per_sample.sum())
    return float((per_sample.sum() - per_sample[own]) / total) if total > 0 else None


def _floats(part: Any) -> list[Tensor]:
    if isinstance(part, Tensor):
        return [part] if part.is_floating_point() else []
    if isinstance(part, Mapping):
        return [one for value in part.values() for one in _floats(value)]
    return [one for value in part for one in _floats(value)] if isinstance(part, list | tuple) else []


def _leaves(part: Any, leaves: list[Tensor], count: int) -> Any:
    """Return arguments in which the inputs of samples ask for their gradients, and list these."""
    if isinstance(part, Tensor):
        if not part.is_floating_point() or not part.ndim or len(part) != count:
            return part.detach()
        leaf = part.detach().clone().requires_grad_()
        leaves.append(leaf)
        return leaf.clone()  # a model may work in place on what it is given
    if isinstance(part, Mapping):
        return {key: _leaves(value, leaves, count) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return rebuilt(part, [_leaves(value, leaves, count) for value in part])
    return part


def _rows_alike(values: Tensor) -> bool:
    values = values.float()
    largest = float(values.abs().max()) if values.numel() else 0.0
    return float((values - values[:1]).abs().max()) <= _ALIKE * largest if values.numel() else True
