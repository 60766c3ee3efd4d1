"""Outputs of the model: their values in training and in evaluation."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...probe.model_probe import OutputProbe
from .recording import ModelCall

_ROWS = 4096
_SUMMED = 4  # axes; larger outputs are no scores of classes
# Operations of autograd that leave values as they are; the last one is torch's hook.
_SAME_VALUES = (
    "view", "unsafeview", "reshapealias", "squeeze", "unsqueeze", "select", "slice", "permute", "transpose", "t",
    "clone", "alias", "tocopy", "expand", "index", "split", "unbind", "backwardhookfunction",
)  # fmt: skip


def tensors_of(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return those outputs that are tensors with numbers, by key."""
    return {key: value for key, value in outputs.items() if isinstance(value, Tensor) and value.numel()}


def outputs_of_calls(calls: Sequence[ModelCall], batch: Any, given: Any) -> dict[str, Any]:
    """Return what models gave, by the keys of the batch that holds it afterwards, else by names of theirs.

    Args:
        calls: of models.
        batch: as ``handle_batch`` left it.
        given: as it was before.
    """
    made = dict(_named_outputs(calls))
    if not isinstance(batch, Mapping):
        return made
    before = given if isinstance(given, Mapping) else {}
    fresh = {key: value for key, value in batch.items() if key not in before and isinstance(value, Tensor)}
    named: dict[str, Any] = {}
    for name, value in made.items():
        # The batch may hold them without their graph, or under another name.
        key = next((key for key, other in fresh.items() if _is_same(value, other)), name)
        named[str(key)] = value
    return named


def _is_same(value: Any, other: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == other.shape and value.data_ptr() == other.data_ptr()


def _named_outputs(calls: Sequence[ModelCall]) -> Iterator[tuple[str, Any]]:
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.key] = counts.get(call.key, 0) + 1
        number = f"_{counts[call.key]}" if counts[call.key] > 1 else ""
        yield from ((f"{name}{number}", value) for name, value in named_parts(call.output, call.key or "output"))


def named_parts(output: Any, name: str, keys: Any = None) -> Iterator[tuple[str, Any]]:
    """Yield the parts of what a model returned: of a dict by its keys, of several by number."""
    if isinstance(output, Mapping):
        yield from ((str(key), value) for key, value in output.items())
    elif isinstance(output, list | tuple):
        given = keys if isinstance(keys, list | tuple) else [f"{name}[{index}]" for index in range(len(output))]
        yield from zip(map(str, given), output, strict=False)
    else:
        yield (keys if isinstance(keys, str) else name), output


@torch.no_grad()
def observe_output(key: str, output: Tensor, **facts: Any) -> OutputProbe:
    """Return what is known of an output."""
    values = output.detach().float()
    low, high = values.aminmax()
    return OutputProbe(
        key, tuple(output.shape), str(output.dtype).removeprefix("torch."), _rows(values), float(low), float(high),
        _sums(values) if float(low) >= 0 else {}, _sums(values.exp()) if float(high) <= 0 else {},
        made_by=made_by(output), **facts,
    )  # fmt: skip


def made_by(output: Tensor) -> str:
    """Return the operation that made an output, as ``OutputProbe`` holds it."""
    node: Any = output.grad_fn
    while node is not None:
        name = re.sub(r"backward\d*$", "", node.name().lower())
        if name not in _SAME_VALUES or not node.next_functions:
            return name
        node = node.next_functions[0][0]
    return ""


def _rows(values: Tensor) -> NDArray[np.float32] | None:
    """Return rows of classes, of samples or of pixels drawn over all samples."""
    if not values.ndim:
        return None
    table = values.reshape(len(values), -1) if values.ndim < 3 else values.movedim(1, -1).flatten(0, -2)
    if len(table) > _ROWS:
        drawn = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:_ROWS].sort().values
        table = table[drawn.to(table.device)]
    return table.cpu().numpy().copy()


def _sums(values: Tensor) -> dict[int, tuple[float, float]]:
    found = {}
    for axis in range(min(values.ndim, _SUMMED)):
        # Over axis 0 too: a softmax over the batch sums to 1 there.
        low, high = values.sum(dim=axis).aminmax()
        found[axis] = (float(low), float(high))
    return found


def value_range(output: Any) -> tuple[float, float] | None:
    """Return the smallest and the largest value; None for what is no tensor."""
    if not isinstance(output, Tensor) or not output.numel() or output.is_complex():
        return None
    low, high = output.detach().float().aminmax()
    return float(low), float(high)
