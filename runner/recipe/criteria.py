"""Place, train and save the tensors and parameters that a criterion has of its own."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.distributed import reduce_state, world_size
from assay.callbacks.support.unwrap import by_name, load_weights, raw_optimizers, weights_of

_log = logging.getLogger("assay")
# Attributes in which nn.Module keeps what its own ``to`` moves.
_REGISTERED = ("_parameters", "_buffers", "_modules")


def criterion_modules(criterion: Any) -> dict[str, nn.Module]:
    """Return those of one or several criteria that are modules, by name, ``""`` for the only one."""
    return {name: part for name, part in by_name(criterion).items() if isinstance(part, nn.Module)}


def to_device(criterion: Any, device: torch.device) -> Any:
    """Return one criterion or several by name with their tensors on a device.

    These are those of modules, those in attributes of modules and of other objects, and arguments of a ``partial``.
    Modules and objects are changed in place, so that an optimizer keeps their parameters.
    """
    if isinstance(criterion, Mapping):
        return {name: to_device(part, device) for name, part in criterion.items()}
    if isinstance(criterion, partial):
        arguments, options = send_to_device((criterion.args, criterion.keywords), device)
        # A new one, as the arguments of a partial cannot be set.
        return partial(to_device(criterion.func, device), *arguments, **options)
    owner = getattr(criterion, "__self__", criterion)  # of a method
    if isinstance(owner, nn.Module):
        owner.to(device)
    for part in owner.modules() if isinstance(owner, nn.Module) else [owner]:
        _move_attributes(part, device)
    return criterion


def _move_attributes(part: Any, device: torch.device) -> None:
    # ``nn.Module.to`` leaves tensors that are plain attributes where they are, and other objects have no ``to``.
    if isinstance(part, FunctionType | type):  # shared by the whole process
        return
    for name, value in list(getattr(part, "__dict__", {}).items()):
        if name not in _REGISTERED:
            vars(part)[name] = _move(value, device)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value if value.device == device else value.to(device)
    if type(value) in (list, tuple):
        return type(value)(_move(inner, device) for inner in value)
    if type(value) is dict:
        return {key: _move(inner, device) for key, inner in value.items()}
    return to_device(value, device) if isinstance(value, nn.Module | partial) else value


def own_parameters(criterion: Any) -> list[nn.Parameter]:
    """Return the parameters of one criterion or of several, each once, frozen ones included."""
    modules = criterion_modules(criterion).values()
    # As keys of a dict: each once, in a fixed order, by which an optimizer's state names them.
    return list(dict.fromkeys(parameter for module in modules for parameter in module.parameters()))


def own_tensors(criterion: Any) -> list[Tensor]:
    """Return parameters and buffers of one criterion or of several."""
    buffers = (buffer for module in criterion_modules(criterion).values() for buffer in module.buffers())
    return [*own_parameters(criterion), *buffers]


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Average gradients over ranks, as DDP does for those of a model. A collective with one message per type.

    Args:
        parameters: the same on every rank; a rank without a gradient counts as one whose gradient is zero.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained or world_size() == 1:
        return
    for parameter in trained:
        if parameter.grad is None:  # every rank has to send as much
            parameter.grad = torch.zeros_like(parameter)
    # Named by number: every rank has the parameters in one order, while names of several criteria may repeat.
    gradients = {str(i): parameter.grad for i, parameter in enumerate(trained) if parameter.grad is not None}
    sums = reduce_state(gradients, dict.fromkeys(gradients, "sum"))
    for name, gradient in gradients.items():
        gradient.copy_(sums[name] / world_size())


def train_too(optimizer: Any, criterion: Any) -> None:
    """Add a criterion's parameters that no optimizer has to the optimizer, as a group with its default settings.

    Raises:
        UsageError: there are several optimizers, so that it is not known which one is meant.
    """
    missing = not_optimized(optimizer, criterion)
    if not missing:
        return
    if isinstance(optimizer, Mapping):
        raise UsageError(
            f"the criterion has parameters of its own that none of the optimizers {list(optimizer)} has: give them to "
            "one in get_optimizer."
        )
    optimizer.add_param_group({"params": missing})


def not_optimized(optimizer: Any, criterion: Any) -> list[nn.Parameter]:
    """Return the parameters of a criterion that are in none of the optimizers."""
    groups = [group for part in raw_optimizers(optimizer).values() for group in part.param_groups]
    # By identity, as == of tensors compares values.
    held = {id(parameter) for group in groups for parameter in group["params"]}
    return [parameter for parameter in own_parameters(criterion) if id(parameter) not in held]


def warn_of_not_optimized(optimizer: Any, criterion: Any) -> None:
    """Log how many parameters of a criterion are to be trained and in none of the optimizers, if any."""
    count = sum(parameter.requires_grad for parameter in not_optimized(optimizer, criterion))
    if optimizer is not None and count:
        _log.warning(
            "%d of the criterion's own parameters stay as they are: no optimizer has them; give it "
            "[*model.parameters(), *criterion.parameters()]", count,
        )  # fmt: skip


def criterion_state(criterion: Any) -> dict[str, dict[str, Any]]:
    """Return the weights and buffers of one criterion or of several, by name; those that have none are left out."""
    states = {name: weights_of(module) for name, module in criterion_modules(criterion).items()}
    return {name: state for name, state in states.items() if state}


def load_criterion_state(criterion: Any, state: Mapping[str, Any]) -> None:
    """Load what ``criterion_state`` returned. What has no state there, as in an older checkpoint, stays as it is.

    Where constants of torch's losses, such as class weights, are others than those given now, a warning says so.

    Raises:
        UsageError: a state does not fit its criterion.
    """
    for name, module in criterion_modules(criterion).items():
        if name in state and module.state_dict():
            # Given now and in the checkpoint: a user who changes class weights before resuming has to hear of it.
            given = {key: constant.clone() for key, constant in _constants(module).items()}
            try:
                load_weights(module, state[name])
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise UsageError(f"the checkpoint does not fit this criterion: {reason}") from error
            changed = [key for key, constant in _constants(module).items() if not torch.equal(constant, given[key])]
            if changed:
                _log.warning(
                    "the criterion goes on with %s of the checkpoint, not with what it was given now", listing(changed)
                )


def _constants(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of torch's own losses in a module, which are given to them and never change."""
    return {
        f"{path}.{name}".lstrip("."): buffer
        for path, part in module.named_modules()
        if type(part).__module__ == "torch.nn.modules.loss"
        for name, buffer in part.named_buffers(recurse=False)
    }
