"""Metrics of torchmetrics, exact over the epoch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from catalyst import dl
from torch import Tensor

from .distributed import reduce_state
from .errors import UsageError, unknown_name
from .keys import OUTPUT_KEY, TARGET_KEY, pick
from .loader_state import freeze, thaw
from .measures.class_metric import CLASS_METRICS, ClassTotals, class_metric

if TYPE_CHECKING:
    import torchmetrics  # takes a second to import

TASKS = ("binary", "multiclass", "multilabel")


class Metrics(dl.Callback):
    """Computes metrics over each epoch as a whole, and over each batch, for every loader.

    The epoch's value is that of all samples together, not a mean of batch values, and over all ranks. Nothing is
    read from the device within a step. A metric that gives one value a class is logged as ``NAME/CLASS``.

    =========================== ==============================================================
    written to                  content
    =========================== ==============================================================
    ``runner.batch_metrics``    ``NAME``: the batch alone, a tensor on the device
    ``runner.loader_metrics``   ``NAME``: all samples of the loader, a number
    =========================== ==============================================================

    Args:
        metrics: one or several names (accuracy, balanced_accuracy, f1, iou, precision, recall; all but accuracy are
            means over classes), or a mapping from the name to log to one of these or to a ``torchmetrics.Metric``. A
            metric by name sees decided classes, a ``torchmetrics.Metric`` of yours sees the output as it is. Which
            classes a mean is over, see ``class_metric``; accuracy of ``multilabel`` is that of all labels.
        task: ``multiclass`` (output [N, C, ...], the largest wins), ``binary`` (output [N, ...], positive means
            yes) or ``multilabel`` (output [N, C, ...], positive means yes). For metrics by name.
        num_classes: C, for metrics by name; ``class_names`` may stand in for it.
        class_names: one a class, for the names of values by class.
        ignore_index: target value that is left out, for metrics by name.
        output_key: of the batch.
        target_key: of the batch; class numbers [N, ...], or 0 and 1 in the output's shape.

    Raises:
        UsageError: a name or task is unknown, the number of classes is missing, or, at the first batch, a key is.
    """

    def __init__(
        self,
        metrics: "str | Sequence[str] | Mapping[str, str | torchmetrics.Metric]" = ("accuracy",),
        *,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
    ):
        super().__init__(order=dl.CallbackOrder.Metric)
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
        if class_names is not None and num_classes not in (None, len(class_names)):
            raise UsageError(f"num_classes must be that of class_names, {len(class_names)}, got {num_classes}.")
        self.task = task
        self.class_names = class_names
        self.num_classes = num_classes if class_names is None else len(class_names)
        self.ignore_index = ignore_index
        self.output_key = output_key
        self.target_key = target_key
        names = [metrics] if isinstance(metrics, str) else metrics
        named = names if isinstance(names, Mapping) else {name: name for name in names}
        self.by_name = {name: self._check(metric) for name, metric in named.items() if isinstance(metric, str)}
        self.by_object = {name: metric for name, metric in named.items() if not isinstance(metric, str)}
        self.totals_: ClassTotals | None = None

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.totals_ = None
        if self.by_name:
            self.totals_ = ClassTotals(self.task, self._classes(), self.ignore_index, runner.engine.device)
        for metric in self.by_object.values():
            metric.to(runner.engine.device).reset()

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        output = pick(runner.batch, self.output_key, "Metrics").detach()
        target = pick(runner.batch, self.target_key, "Metrics").detach()
        if self.totals_ is not None:
            totals = self.totals_.update(decide(output, self.task), target)
            runner.batch_metrics.update(self._values(totals))
        for name, metric in self.by_object.items():
            value = metric(output, target)
            if not value.ndim:  # one value a class is for the epoch; a batch value is one number
                runner.batch_metrics[name] = value

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        if self.totals_ is not None:
            values = self._values(reduce_state(self.totals_.state, self.totals_.reductions)["totals"])
            numbers = torch.stack(list(values.values())).tolist()
            runner.loader_metrics.update(zip(values, numbers, strict=True))
        for name, metric in self.by_object.items():
            numbers = metric.compute().reshape(-1).tolist()
            runner.loader_metrics.update(zip(self._names(name, len(numbers)), numbers, strict=True))

    def loader_state(self, runner: dl.IRunner) -> dict[str, Any]:
        """Return what was counted of the loader so far, in types that ``weights_only=True`` loads."""
        objects = {
            name: {"updates": metric._update_count, "values": freeze(metric.metric_state)}
            for name, metric in self.by_object.items()
        }
        return {"totals": freeze(self.totals_), "objects": objects}

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Any]) -> None:
        """Continue from what ``loader_state`` returned."""
        self.totals_ = thaw(state["totals"], self.totals_)
        for name, metric in self.by_object.items():
            metric._update_count = state["objects"][name]["updates"]
            for part, values in thaw(state["objects"][name]["values"]).items():
                setattr(metric, part, values)
            metric.to(runner.engine.device)

    def _values(self, totals: Tensor) -> dict[str, Tensor]:
        return {name: class_metric(metric, self.task, totals) for name, metric in self.by_name.items()}

    def _names(self, name: str, count: int) -> list[str]:
        if count == 1:
            return [name]
        classes = self.class_names if self.class_names and len(self.class_names) == count else range(count)
        return [f"{name}/{label}" for label in classes]

    def _classes(self) -> int:
        return 2 if self.task == "binary" else int(self.num_classes or 0)

    def _check(self, name: str) -> str:
        if name not in CLASS_METRICS:
            raise unknown_name("metric", name, CLASS_METRICS, note=" (a torchmetrics.Metric may be given instead)")
        if not self._classes():
            raise UsageError(f"Metrics(metrics={name!r}) needs num_classes or class_names for the task {self.task!r}.")
        if name == "balanced_accuracy" and self.task == "multilabel":
            raise UsageError("balanced_accuracy is for the tasks 'binary' and 'multiclass', got 'multilabel'.")
        return name


def decide(output: Tensor, task: str) -> Tensor:
    """Return the classes that logits decide for.

    Args:
        output: logits; see ``Metrics`` for the shapes.
        task: one of ``TASKS``.

    Returns:
        int64: class numbers [N, ...] for ``multiclass``, otherwise 0 and 1 in the output's shape.
    """
    if task == "multiclass":
        return output.argmax(dim=1) if output.is_cuda or output.ndim == 2 else _argmax(output)
    return (output > 0).to(torch.int64)


def _argmax(output: Tensor) -> Tensor:
    """Return what ``argmax`` over classes does, on a CPU four times as fast: [N, C, ...] to [N, ...]."""
    classes = output.shape[1]
    is_largest = (output == output.amax(dim=1, keepdim=True)).logical_or_(output.isnan())
    # Of several largest ones the first has the largest rank.
    rank = torch.arange(classes, 0, -1, dtype=torch.uint8 if classes < 256 else torch.int32, device=output.device)
    found = (is_largest * rank.reshape(-1, *[1] * (output.ndim - 2))).amax(dim=1)
    return classes - found.to(torch.int64)
