"""Layers as they were called in the training pass, and modules that were not."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ...probe.model_probe import LayerProbe, ParameterProbe
from .parameters import on_host
from .recording import LayerRecord, Recording, full_name, values_per_channel

_OPTIONS = ("p", "momentum", "eps", "track_running_stats", "affine", "num_groups", "dim", "inplace", "batch_first")


@torch.no_grad()
def observe_layers(recording: Recording, samples: float) -> tuple[LayerProbe, ...]:
    """Return what is known of the layers that were called, in the order of their first calls.

    Args:
        recording: of a training pass.
        samples: how many times more samples the run's batch has.
    """
    records = recording.layers
    seen = {name: record for name, record in records.items() if record.numbers is not None}
    numbers = dict(zip(seen, on_host([it.numbers for it in seen.values() if it.numbers is not None]), strict=True))
    back = {name: record.grad for name, record in records.items() if record.grad is not None}
    grads = dict(zip(back, on_host([grad.reshape(1) for grad in back.values()]), strict=True))
    return tuple(_probe(name, record, numbers.get(name), grads.get(name), samples) for name, record in records.items())


def _probe(
    name: str, record: LayerRecord, numbers: list[float] | None, grad: list[float] | None, samples: float
) -> LayerProbe:
    found: dict[str, Any] = {}
    if numbers is not None:
        mean, std, low, high, zeros, dead = numbers
        largest = max(abs(low), abs(high)) if low == low else low
        found = {"out_mean": mean, "out_std": std, "out_largest": largest, "out_zero": max(zeros, 0.0), "dead": dead}
    return LayerProbe(
        name, type(record.module).__name__, record.training, record.calls, record.shape, **found,
        grad_std=grad[0] if grad else None, options=_options(record.module),
        values_per_channel=values_per_channel(record, samples),
    )  # fmt: skip


def _options(module: nn.Module) -> dict[str, Any]:
    found = {name: getattr(module, name, _MISSING) for name in _OPTIONS}
    options = {name: value for name, value in found.items() if isinstance(value, bool | int | float | str | None)}
    # Missing where there is none; a layer without a bias has None there.
    if "bias" in {*module._parameters}:
        options["bias"] = module._parameters["bias"] is not None
    return options


_MISSING = object()


def uncalled_modules(recording: Recording, parameters: Mapping[str, ParameterProbe]) -> tuple[str, ...]:
    """Return modules with parameters of which no part was called, and none got a gradient by another way."""
    found = []
    for key, model in recording.models.items():
        for name, module in model.named_modules():
            inside = [full_name(key, f"{name}.{one}".strip(".")) for one, _ in module.named_parameters()]
            used = any(id(part) in recording.touched for part in module.modules())
            reached = any(one in parameters and parameters[one].grad_norm is not None for one in inside)
            if inside and not used and not reached and not _of_called_attention(model, name, recording):
                found.append(full_name(key, name))
    return tuple(found)


def _of_called_attention(model: nn.Module, name: str, recording: Recording) -> bool:
    """Whether torch's attention has used a module of it without calling it."""
    parent = model.get_submodule(name.rpartition(".")[0])
    return isinstance(parent, nn.MultiheadAttention) and id(parent) in recording.touched
