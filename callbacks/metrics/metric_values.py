"""Inputs, values and states of a ``torchmetrics.Metric`` or ``MetricCollection``."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..measures.targets import decide_targets, has_shares
from ..support.checkpoint_values import from_plain, to_plain
from ..support.host_copy import kept_from_loader

if TYPE_CHECKING:
    from torchmetrics import Metric, MetricCollection  # take a second to import
    from typing_extensions import TypeIs

    AnyMetric = Metric | MetricCollection

_TASKS = ("Binary", "Multiclass", "Multilabel")
_NUMBERS = "numbers: one, one a class, or dicts and lists of them"
_PLAIN = (bool, int, float, type(None))


def check_metric(name: str, metric: Any) -> "AnyMetric":
    """Return ``metric``; raise where it is none, or one that cannot be given output and target."""
    from torchmetrics import Metric, MetricCollection
    from torchmetrics.aggregation import BaseAggregator

    if not isinstance(metric, Metric | MetricCollection):
        kind = getattr(metric, "__name__", type(metric).__name__)
        raise UsageError(f"metrics must be names, torchmetrics.Metric or MetricCollection, got {kind} for {name!r}.")
    for part in metric.modules():
        if isinstance(part, BaseAggregator):
            raise UsageError(
                f"metric {name!r} must compare output and target: a {type(part).__name__} aggregates one value, and "
                "would take the target for its weights."
            )
    return metric


def call_metric(name: str, metric: "AnyMetric", output: Any, target: Any) -> dict[str, Tensor]:
    """Add a batch to a metric; return the batch's own values, see ``leaves``.

    There are none of a ``MinMaxMetric`` and a ``BootStrapper``: to compute them they forget the batches before.

    Raises:
        UsageError: the metric refuses the batch, or gives what is no number.
    """
    target = _target_for(metric, output, target)
    if _keeps_batches(metric):
        output, target = kept_from_loader(output), kept_from_loader(target)
    try:
        if _forgets(metric):
            metric.update(output, target)
            return {}
        value = metric(output, target)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        parts = f"output {_kind(output)} and target {_kind(target)}"
        raise UsageError(f"metric {name or 'collection'!r} refuses {parts}: {' '.join(str(error).split())}") from error
    return leaves(name, value)


def known_names(name: str, metric: "AnyMetric") -> list[str]:
    """Return the names of a metric's values, as far as they are known before the first batch."""
    if not _is_collection(metric):
        return [name]
    return [f"{name}/{key}" if name else str(key) for key in metric.keys()]  # noqa: SIM118 (with prefix and postfix)


def leaves(name: str, value: Any) -> dict[str, Tensor]:
    """Return what a metric gives as tensors [] (one number) or [C] (one a class) by name: ``NAME`` or ``NAME/KEY``.

    Args:
        name: of the metric; empty where the keys of its value are names enough.
        value: a number or tensor, a list of numbers, or a dict of these, nested or not.

    Raises:
        UsageError: something in it is no number, such as the points of a curve, or two have one name.
    """
    if isinstance(value, Mapping):
        found: dict[str, Tensor] = {}
        for key, part in value.items():
            add_leaves(found, leaves(f"{name}/{key}" if name else str(key), part))
        return found
    if isinstance(value, list | tuple):
        return {name: torch.stack([_number(name, part, value) for part in value])} if len(value) else {}
    tensor = _as_tensor(value)
    if tensor is None or tensor.is_complex() or (tensor.ndim > 1 and tensor.numel() != 1):
        raise _refusal(name, value)
    return {name: tensor.reshape(()) if tensor.numel() == 1 else tensor}


def add_leaves(found: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    """Add values to those of other names; raise where a name is taken."""
    if taken := found.keys() & more.keys():
        raise UsageError(f"metrics must give values of different names, got {min(taken)!r} twice.")
    found.update(more)


def compute_metric(name: str, metric: "AnyMetric", class_names: Sequence[str] | None) -> dict[str, float]:
    """Return the numbers of a metric over a loader and all ranks, by name: of one value a class ``NAME/CLASS``."""
    numbers: dict[str, float] = {}
    for key, value in leaves(name, metric.compute()).items():
        names = None if _counts_outcomes(metric, key.removeprefix(f"{name}/")) else class_names
        if value.ndim:
            numbers.update(_by_class(key, value.tolist(), names))
        else:
            numbers[key] = value.item()
    return numbers


def _by_class(name: str, values: Sequence[float], class_names: Sequence[str] | None) -> dict[str, float]:
    labels = class_names if class_names is not None and len(class_names) == len(values) else range(len(values))
    return {f"{name}/{label}": value for label, value in zip(labels, values, strict=True)}


def _counts_outcomes(metric: "AnyMetric", key: str) -> bool:
    """Whether a metric, or the one of a key of a collection, gives five counts, which are no classes."""
    members: dict[str, Any] = dict(metric.items()) if _is_collection(metric) else {}
    return type(members.get(key, metric)).__name__.endswith("StatScores")


def metric_to_plain(metric: "AnyMetric") -> dict[str, Any]:
    """Return the state of a metric and of those within it, by its path, in types that ``weights_only=True`` loads."""
    if _is_collection(metric):
        list(metric.values())  # those of a group lend each other their state; now each has its own
    return {"parts": {path: _part_to_plain(part) for path, part in _parts(metric).items()}}


def metric_from_plain(metric: "AnyMetric", state: Mapping[str, Any]) -> None:
    """Have a metric go on from what ``metric_to_plain`` returned."""
    states = state.get("parts", {"": state})
    for path, part in _parts(metric).items():
        part._update_count = states[path]["updates"]
        for key, value in {**states[path]["values"], **states[path].get("others", {})}.items():
            setattr(part, key, from_plain(value))


def extremes(metric: "AnyMetric") -> dict[str, dict[str, Tensor]]:
    """Return the smallest and largest value that each ``MinMaxMetric`` has given, by its path."""
    from torchmetrics.wrappers import MinMaxMetric

    found = ((path, part) for path, part in _parts(metric).items() if isinstance(part, MinMaxMetric))
    return {path: {name: getattr(part, name) for name in ("min_val", "max_val")} for path, part in found}


def set_extremes(metric: "AnyMetric", values: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Have each ``MinMaxMetric`` go on from what ``extremes`` returned."""
    for path, of_part in values.items():
        vars(_parts(metric)[path]).update(of_part)


def plain_attributes(metric: "AnyMetric") -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return what a metric and those within it hold beside their states, to be set back: ``reset`` may forget it."""
    return [(part, _others(part)) for part in _parts(metric).values()]


def _is_collection(metric: "AnyMetric") -> "TypeIs[MetricCollection]":
    from torchmetrics import MetricCollection

    return isinstance(metric, MetricCollection)


def _forgets(metric: "AnyMetric") -> bool:
    from torchmetrics.wrappers import BootStrapper, MinMaxMetric

    return any(isinstance(part, BootStrapper | MinMaxMetric) for part in metric.modules())


def _keeps_batches(metric: "AnyMetric") -> bool:
    """Whether a metric has lists as states: it keeps batches themselves, which a loader may write over."""
    return any(isinstance(default, list) for part in _parts(metric).values() for default in part._defaults.values())


def _parts(metric: "AnyMetric") -> dict[str, Any]:
    from torchmetrics import Metric

    return {path: part for path, part in metric.named_modules() if isinstance(part, Metric)}


def _part_to_plain(part: Any) -> dict[str, Any]:
    return {
        "updates": part._update_count,
        "values": to_plain(part.metric_state),
        "others": to_plain(_others(part)),
    }


def _others(part: Any) -> dict[str, Any]:
    """Return tensors and plain values of a metric that are not its states, such as the extremes of a MinMaxMetric."""
    states = part.metric_state
    return {
        name: value
        for name, value in vars(part).items()
        if name not in states and name not in ("training", "_update_count") and isinstance(value, (Tensor, *_PLAIN))
    }


def _target_for(metric: "AnyMetric", output: Any, target: Any) -> Any:
    """Return the target as a metric of classes takes it: decided where it is soft or one-hot."""
    if not isinstance(target, Tensor) or not isinstance(output, Tensor):
        return target
    tasks = {_task_of(part) for part in _parts(metric).values()} - {""}
    if len(tasks) != 1 or not (target.is_floating_point() or has_shares(target.shape, output.shape)):
        return target
    (task,) = tasks
    if task is None or (task == "multiclass" and not has_shares(target.shape, output.shape)):
        return target
    ignored = next((part.ignore_index for part in _parts(metric).values() if hasattr(part, "ignore_index")), None)
    return decide_targets(target, output.shape if task == "multiclass" else target.shape, task, ignored)


def _task_of(part: Any) -> str | None:
    """Return the task of a metric of torchmetrics' own classes, ``""`` of a wrapper, None of any other."""
    kind = next((kind for kind in type(part).__mro__ if kind.__module__.startswith("torchmetrics.")), type(part))
    if kind.__module__.startswith("torchmetrics.wrappers"):
        return ""
    task = next((task for task in _TASKS if kind.__name__.startswith(task)), None)
    return task.lower() if task and kind.__module__.startswith("torchmetrics.classification") else None


def _number(name: str, part: Any, whole: Any) -> Tensor:
    tensor = _as_tensor(part)
    if tensor is None or tensor.is_complex() or tensor.numel() != 1:
        raise _refusal(name, whole)
    return tensor.reshape(())


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        return torch.as_tensor(value)
    return torch.tensor(value) if isinstance(value, int | float) else None


def _refusal(name: str, value: Any) -> UsageError:
    return UsageError(f"metric {name!r} must give {_NUMBERS}; it gives {_kind(value)}. Leave it out of Metrics.")


def _kind(value: Any, depth: int = 0) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list | tuple) and value and not depth:
        return f"a {type(value).__name__} of " + ", ".join(_kind(part, depth + 1) for part in value[:3])
    return f"a {type(value).__name__}"
