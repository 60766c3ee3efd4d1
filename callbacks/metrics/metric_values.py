"""Feeds, reads and saves a ``torchmetrics.Metric`` or ``MetricCollection``."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..measures.targets import decide_targets, has_shares
from ..support.checkpoint_values import from_plain, to_plain
from ..support.host_copy import kept_from_loader

if TYPE_CHECKING:
    # Imported within functions, as torchmetrics takes a second to import.
    from torchmetrics import Metric, MetricCollection
    from typing_extensions import TypeIs

    AnyMetric = Metric | MetricCollection

_TASKS = ("Binary", "Multiclass", "Multilabel")
_NUMBERS = "numbers: one, one per class, or dicts and lists of them"
_PLAIN = (bool, int, float, type(None))


def check_metric(name: str, metric: Any) -> "AnyMetric":
    """Return ``metric``; raise a ``UsageError`` if it is no metric, or one that does not compare output and target."""
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


def call_metric(
    name: str, metric: "AnyMetric", output: Any, target: Any, keep: Callable[[Any], Any] = kept_from_loader
) -> dict[str, Tensor]:
    """Add a batch to a metric, and return the values of the batch alone, as ``leaves`` does.

    ``MinMaxMetric`` and ``BootStrapper`` have no value per batch.

    Raises:
        UsageError: the metric refuses the batch, or returns something other than numbers.
    """
    target = _target_for(metric, output, target)
    if _keeps_batches(metric):
        output, target = keep(output), keep(target)
    try:
        # Computing a value per batch would make these forget the batches before.
        if _forgets_batches(metric):
            metric.update(output, target)
            return {}
        value = metric(output, target)
    except torch.OutOfMemoryError:
        # A RuntimeError too, yet no fault of the metric or the batch: the run's own handling names what to lower.
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        parts = f"output {_describe(output)} and target {_describe(target)}"
        raise UsageError(f"metric {name or 'collection'!r} refuses {parts}: {' '.join(str(error).split())}") from error
    return leaves(name, value)


def known_names(name: str, metric: "AnyMetric") -> list[str]:
    """Return the names of a metric's values that are known before the first batch."""
    if not _is_collection(metric):
        return [name]
    return [f"{name}/{key}" if name else str(key) for key in metric.keys()]  # noqa: SIM118 (with prefix and postfix)


def leaves(name: str, value: Any) -> dict[str, Tensor]:
    """Return the value of a metric as tensors [] (one number) or [C] (one per class), by ``NAME`` or ``NAME/KEY``.

    Args:
        name: name of the metric; empty if the keys of its value serve as names.
        value: a number or tensor, a list of numbers, or a dict of these, nested or not.

    Raises:
        UsageError: it holds something other than numbers, such as the points of a curve, or one name twice.
    """
    if isinstance(value, Mapping):
        found: dict[str, Tensor] = {}
        for key, part in value.items():
            add_leaves(found, leaves(f"{name}/{key}" if name else str(key), part))
        return found
    if isinstance(value, list | tuple):
        return {name: torch.stack([_as_number(name, part, value) for part in value])} if len(value) else {}
    tensor = _as_tensor(value)
    if tensor is None or tensor.is_complex() or (tensor.ndim > 1 and tensor.numel() != 1):
        raise _refusal(name, value)
    return {name: tensor.reshape(()) if tensor.numel() == 1 else tensor}


def add_leaves(found: dict[str, Tensor], more: Mapping[str, Tensor]) -> None:
    """Add values to those of other names; raise a ``UsageError`` if a name is taken."""
    if taken := found.keys() & more.keys():
        raise UsageError(f"metrics must give values of different names, got {min(taken)!r} twice.")
    found.update(more)


def compute_metric(name: str, metric: "AnyMetric", class_names: Sequence[str] | None) -> dict[str, float]:
    """Return the numbers of a metric over a loader and all ranks, by ``NAME`` or, per class, ``NAME/CLASS``."""
    numbers: dict[str, float] = {}
    for key, value in leaves(name, metric.compute()).items():
        names = None if _counts_outcomes(metric, key.removeprefix(f"{name}/")) else class_names
        if value.ndim:
            numbers.update(_name_by_class(key, value.tolist(), names))
        else:
            numbers[key] = value.item()
    return numbers


def _name_by_class(name: str, values: Sequence[float], class_names: Sequence[str] | None) -> dict[str, float]:
    # A vector of another length is not one of these classes, and its entries are numbered.
    labels = class_names if class_names is not None and len(class_names) == len(values) else range(len(values))
    return {f"{name}/{label}": value for label, value in zip(labels, values, strict=True)}


def _counts_outcomes(metric: "AnyMetric", key: str) -> bool:
    """Whether a metric, or one in a collection by its key, returns counts of outcomes, which are no classes."""
    # StatScores returns five: true and false positives, true and false negatives, and support.
    members: dict[str, Any] = dict(metric.items()) if _is_collection(metric) else {}
    return type(members.get(key, metric)).__name__.endswith("StatScores")


def metric_to_plain(metric: "AnyMetric") -> dict[str, Any]:
    """Return the states of a metric and of those within it, by path, in types that ``weights_only=True`` loads."""
    if _is_collection(metric):
        # Metrics of one compute group share one state; reading them gives each its own.
        list(metric.values())
    return {"parts": {path: _part_to_plain(part) for path, part in _parts(metric).items()}}


def metric_from_plain(metric: "AnyMetric", state: Mapping[str, Any]) -> None:
    """Restore what ``metric_to_plain`` returned."""
    # Former versions saved the state of the metric alone, without those within it.
    states = state.get("parts", {"": state})
    for path, part in _parts(metric).items():
        part._update_count = states[path]["updates"]
        # "others" came later: checkpoints before lack it.
        for key, value in {**states[path]["values"], **states[path].get("others", {})}.items():
            setattr(part, key, from_plain(value))


def extremes(metric: "AnyMetric") -> dict[str, dict[str, Tensor]]:
    """Return the smallest and the largest value that each ``MinMaxMetric`` has returned, by its path."""
    from torchmetrics.wrappers import MinMaxMetric

    found = ((path, part) for path, part in _parts(metric).items() if isinstance(part, MinMaxMetric))
    return {path: {name: getattr(part, name) for name in ("min_val", "max_val")} for path, part in found}


def set_extremes(metric: "AnyMetric", values: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Restore what ``extremes`` returned in each ``MinMaxMetric``."""
    for path, of_part in values.items():
        vars(_parts(metric)[path]).update(of_part)


def plain_attributes(metric: "AnyMetric") -> list[tuple[nn.Module, dict[str, Any]]]:
    """Return what a metric and those within it hold apart from their states."""
    return [(part, _plain_attributes_of(part)) for part in _parts(metric).values()]


def _is_collection(metric: "AnyMetric") -> "TypeIs[MetricCollection]":
    from torchmetrics import MetricCollection

    return isinstance(metric, MetricCollection)


def _forgets_batches(metric: "AnyMetric") -> bool:
    from torchmetrics.wrappers import BootStrapper, MinMaxMetric

    return any(isinstance(part, BootStrapper | MinMaxMetric) for part in metric.modules())


def _keeps_batches(metric: "AnyMetric") -> bool:
    """Whether a metric keeps the batches themselves: its states are lists."""
    # A loader may write its next batch into the same memory, so such a metric is given copies.
    return any(isinstance(default, list) for part in _parts(metric).values() for default in part._defaults.values())


def _parts(metric: "AnyMetric") -> dict[str, Any]:
    from torchmetrics import Metric

    return {path: part for path, part in metric.named_modules() if isinstance(part, Metric)}


def _part_to_plain(part: Any) -> dict[str, Any]:
    return {
        "updates": part._update_count,
        "values": to_plain(part.metric_state),
        "others": to_plain(_plain_attributes_of(part)),
    }


def _plain_attributes_of(part: Any) -> dict[str, Any]:
    """Return tensors and plain values of a metric that are not its states, such as the extremes of a MinMaxMetric."""
    # torchmetrics declares, reduces and saves its states alone.
    states = part.metric_state
    return {
        name: value
        for name, value in vars(part).items()
        if name not in states and name not in ("training", "_update_count") and isinstance(value, (Tensor, *_PLAIN))
    }


def _target_for(metric: "AnyMetric", output: Any, target: Any) -> Any:
    """Return the target as a classification metric takes it: soft and one-hot targets become classes."""
    if not isinstance(target, Tensor) or not isinstance(output, Tensor):
        return target
    tasks = {_task_of(part) for part in _parts(metric).values()} - {""}
    # Metrics of different tasks in one collection need different targets; those are left to the user.
    if len(tasks) != 1 or not (target.is_floating_point() or has_shares(target.shape, output.shape)):
        return target
    (task,) = tasks
    if task is None or (task == "multiclass" and not has_shares(target.shape, output.shape)):
        return target
    ignored = next((part.ignore_index for part in _parts(metric).values() if hasattr(part, "ignore_index")), None)
    return decide_targets(target, output.shape if task == "multiclass" else target.shape, task, ignored)


def _task_of(part: Any) -> str | None:
    """Return the task of one of torchmetrics' classification metrics, ``""`` for a wrapper, None for any other."""
    # By the class's name, as torchmetrics has no attribute for it: ``BinaryAccuracy``, ``MulticlassF1Score``.
    kind = next((kind for kind in type(part).__mro__ if kind.__module__.startswith("torchmetrics.")), type(part))
    if kind.__module__.startswith("torchmetrics.wrappers"):
        return ""
    task = next((task for task in _TASKS if kind.__name__.startswith(task)), None)
    return task.lower() if task and kind.__module__.startswith("torchmetrics.classification") else None


def _as_number(name: str, part: Any, whole: Any) -> Tensor:
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
    return UsageError(f"metric {name!r} must give {_NUMBERS}; it gives {_describe(value)}. Leave it out of Metrics.")


def _describe(value: Any, depth: int = 0) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, list | tuple) and value and not depth:
        return f"a {type(value).__name__} of " + ", ".join(_describe(part, depth + 1) for part in value[:3])
    return f"a {type(value).__name__}"
