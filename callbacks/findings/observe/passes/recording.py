"""``Recording``: what each layer gives in one training pass, and what comes back to it, by hooks on copies."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ....support.unwrap import eager_name
from .batches import tensors_in

_WITH_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.RNNBase, nn.MultiheadAttention, nn.Embedding)


@dataclass
class LayerRecord:
    """What one module gave in its first call.

    Attributes:
        module: a copy of the layer.
        training: its mode.
        calls: how often it was called.
        shape: of its output; () where that is no tensor.
        numbers: mean, standard deviation, smallest and largest value, shares of zeros and of dead channels, [6].
        grad: standard deviation of the gradient of its output, []; None where none has come.
    """

    module: nn.Module
    training: bool = True
    calls: int = 0
    shape: tuple[int, ...] = ()
    numbers: Tensor | None = None
    grad: Tensor | None = None


@dataclass
class ModelCall:
    """One call of a whole model."""

    key: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    training: bool


@dataclass
class Recording:
    """What is seen of the copies of the models in a pass.

    Args:
        models: by name.
        of_layers: whether layers are looked at, and not whole models alone.

    Attributes:
        layers: by name, in the order in which they are first called.
        calls: of whole models.
        touched: ids of the modules that were called.
        grad_norms: of parameters, by id: norm of the gradient so far, [].
        shifts: names of layers whose bias a normalization takes away.
        reached: ids of the tensors that whole models gave, and to which a gradient has come back.
    """

    models: Mapping[str, nn.Module]
    of_layers: bool = True
    layers: dict[str, LayerRecord] = field(default_factory=dict)
    calls: list[ModelCall] = field(default_factory=list)
    touched: set[int] = field(default_factory=set)
    grad_norms: dict[int, Tensor] = field(default_factory=dict)
    shifts: set[str] = field(default_factory=set)
    reached: set[int] = field(default_factory=set)
    _made: dict[int, tuple[Tensor, str]] = field(default_factory=dict)
    _channels_last: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the context is open."""
        with ExitStack() as stack:
            for key, model in self.models.items():
                for name, module in model.named_modules() if self.of_layers else [("", model)]:
                    watch = _Watch(self, full_name(key, name), module, key if not name else None)
                    stack.callback(module.register_forward_pre_hook(watch.before).remove)
                    stack.callback(module.register_forward_hook(watch.after, with_kwargs=True).remove)
            yield
        self._made.clear()

    def watch_gradients(self) -> None:
        """Keep the norm of each parameter's gradient, whoever runs the backward pass, and however it is zeroed."""
        for model in self.models.values():
            for parameter in model.parameters():
                if parameter.requires_grad and not isinstance(parameter, nn.UninitializedParameter):
                    parameter.register_post_accumulate_grad_hook(self._keep_norm)

    def watch_outputs(self, output: Any) -> None:
        """Note to which tensors of a model's output a gradient comes."""
        for tensor in tensors_in(output):
            if tensor.requires_grad:
                tensor.register_hook(partial(self._reach, id(tensor)))

    def _reach(self, key: int, gradient: Tensor) -> None:
        self.reached.add(key)

    def _keep_norm(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            gradient = parameter.grad.detach()
            values = gradient.coalesce().values() if gradient.is_sparse else gradient
            # Half precision would overflow, and double or complex numbers cannot be narrowed before.
            self.grad_norms[id(parameter)] = values.to(torch.promote_types(values.dtype, torch.float32)).norm().float()


class _Watch:
    """The hooks of one module."""

    def __init__(self, recording: Recording, name: str, module: nn.Module, model: str | None):
        self.recording, self.name, self.model = recording, name, model
        own = next(module.parameters(recurse=False), None) is not None
        self.is_layer = recording.of_layers and (own or next(module.children(), None) is None)
        self.has_bias = isinstance(getattr(module, "bias", None), Tensor) and not _normalizes(module)

    def before(self, module: nn.Module, inputs: Any) -> None:
        self.recording.touched.add(id(module))
        if self.is_layer:
            record = self.recording.layers.setdefault(self.name, LayerRecord(module, module.training))
            record.calls += 1
        first = inputs[0] if inputs else None
        made = self.recording._made.get(id(first))
        if made is not None and _takes_bias_away(module):
            self.recording.shifts.add(made[1])

    def after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        recording = self.recording
        if self.model is not None:
            recording.calls.append(ModelCall(self.model, args, kwargs, output, module.training))
            recording.watch_outputs(output)
        tensor = next(tensors_in(output), None) if isinstance(output, Tensor | list | tuple) else None
        if not self.is_layer or tensor is None:
            return
        if self.has_bias:
            recording._made[id(tensor)] = (tensor, self.name)
        if next(module.parameters(recurse=False), None) is not None:
            recording._channels_last = isinstance(module, _WITH_CHANNELS_LAST)
        record = recording.layers[self.name]
        if record.calls == 1 and tensor.is_floating_point() and tensor.numel():
            record.shape = tuple(output.shape) if isinstance(output, Tensor) else ()
            record.numbers = _numbers(tensor.detach(), -1 if recording._channels_last else 1)
            if tensor.requires_grad:
                tensor.register_hook(lambda gradient: _keep_grad(record, gradient))


def _keep_grad(record: LayerRecord, gradient: Tensor) -> None:
    record.grad = moments(gradient.detach().float())[1]


def _numbers(output: Tensor, axis: int) -> Tensor:
    values = output.float()
    mean, std = moments(values)
    low, high = values.aminmax()
    filled = values.sign().abs_()  # a sum of floats takes a fifth of the time of one of truth values
    axis = axis % values.ndim if values.ndim > 1 else 0
    others = [other for other in range(values.ndim) if other != axis]
    counts = filled.sum(dim=others) if others else filled
    zeros = 1 - counts.sum() / values.numel()
    return torch.stack([mean, std, low, high, zeros, (counts == 0).float().mean()])


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, [] each; on a CPU ten times faster than ``torch.var_mean``."""
    mean = values.mean()
    return mean, torch.linalg.vector_norm(values - mean) / values.numel() ** 0.5


def _normalizes(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm | _InstanceNorm | nn.GroupNorm | nn.LayerNorm)


def _takes_bias_away(module: nn.Module) -> bool:
    """Whether a normalization subtracts the mean of each channel alone, and so whatever is added to it."""
    if isinstance(module, nn.GroupNorm):
        return module.num_groups == module.num_channels
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.training or not module.track_running_stats
    return False


def full_name(key: str, name: str) -> str:
    """Return the name of a module or a parameter of one of several models, as the run calls it."""
    return eager_name(".".join(part for part in (key, name) if part))


def values_per_channel(record: LayerRecord, samples: float) -> int | None:
    """Return how many values each statistic of a normalization over the batch is of.

    Args:
        record: of the layer.
        samples: how many times more the run's batch has than the one that was tried.
    """
    if not isinstance(record.module, _BatchNorm) or not record.shape or len(record.shape) < 2:
        return None
    return round(math.prod(record.shape) / max(record.shape[1], 1) * samples)
