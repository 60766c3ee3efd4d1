"""Metrics: metrics by name and of torchmetrics, exact over the epoch."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from catalyst import dl
from torch import Tensor

from ..base.class_shapes import check_shapes
from ..base.class_targets import ClassTargets
from ..base.dict_batch import pick_part, pick_tensor
from ..base.naming import Named
from ..base.order import METRICS
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.class_metric import CLASS_METRICS, ClassMetrics, ClassTotals, count_outside
from ..measures.measure import reduce_measure
from ..measures.regression import REGRESSION_METRICS, RegressionTotals, regression_metric
from ..measures.targets import decide_targets, is_paired
from ..support.checkpoint_values import from_plain, to_plain
from ..support.class_names import check_names
from ..support.distributed import reduce_state
from ..support.runner_view import kept_parts
from ..support.unwrap import detached
from .metric_values import (
    add_leaves,
    call_metric,
    check_metric,
    compute_metric,
    extremes,
    known_names,
    metric_from_plain,
    metric_to_plain,
    plain_attributes,
    set_extremes,
)

if TYPE_CHECKING:
    from .metric_values import AnyMetric

    Given = str | AnyMetric

TASKS = ("binary", "multiclass", "multilabel")
METRIC_TASKS = (*TASKS, "regression")


class Metrics(Named):
    """Computes metrics over each epoch as a whole, and over each batch, for every loader.

    The value of an epoch is that of all its samples together over all ranks, not a mean of batch values. Nothing is
    read from the device within a step.

    =========================== ==============================================================
    written to                  content
    =========================== ==============================================================
    ``runner.batch_metrics``    ``NAME``: of the batch alone, a tensor on the device
    ``runner.loader_metrics``   ``NAME``: of all samples of the loader, a number
    =========================== ==============================================================

    A ``torchmetrics.Metric`` may return one number, one number per class (logged as ``NAME/CLASS``, per epoch only), or
    a list or dict of these, nested or not (``NAME/KEY``), as ``ClasswiseWrapper``, ``MinMaxMetric``, ``BootStrapper``
    and ``MetricCollection`` do. Curves and matrices are refused at the first batch, for example those of ``ROC``.
    Metrics are reset at the start of each loader; only ``max`` and ``min`` of a ``MinMaxMetric`` cover all epochs of
    the loader so far. ``MinMaxMetric`` and ``BootStrapper`` have no value per batch.

    Targets may be soft, smoothed or one-hot: for ``multiclass`` the class with the largest share counts, for ``binary``
    and ``multilabel`` a value above 0.5 means yes (see ``decide_targets``). The same holds for the classification
    metrics of torchmetrics.

    Args:
        metrics: a name, a ``torchmetrics.Metric``, several of these, or a mapping to them from the name to log. Names
            for classes are accuracy, balanced_accuracy, f1 (or dice), iou, precision and recall; all but accuracy are
            means over classes (see ``class_metric``). Names for ``regression`` are mae, mse and r2 (see
            ``regression_metric``). A metric by name compares predicted classes, a ``torchmetrics.Metric`` is given the
            output unchanged. By default a ``torchmetrics.Metric`` is logged under the name of its class, and a
            ``MetricCollection`` under its own keys, with its prefix and postfix. None: accuracy, or mae, mse and r2 for
            ``regression``.
        task: for metrics by name. ``multiclass`` (output [N, C, ...]: the largest logit wins), ``binary`` (output
            [N, ...]: a positive logit means yes), ``multilabel`` (output [N, C, ...]: a positive logit means yes) or
            ``regression`` (output [N], [N, D], [N, H, W] or [N, D, H, W]: metrics are means over the D numbers).
        num_classes: C, the number of classes or labels, for metrics by name. Not needed with ``class_names``.
        class_names: one name per class, for the names of values per class; None: classes are shown by number.
        ignore_index: target value to leave out, for metrics by name; for ``regression`` any number, or NaN. None: every
            target counts.
        output_key: key of the outputs in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...] or shares [N, C, ...] for ``multiclass``; 0
            and 1, or soft, in the shape of the output for ``binary`` and ``multilabel``; numbers in the shape of the
            output for ``regression``.
        prefix: added in front of the names, as ``PREFIX/NAME``; a second callback of this kind needs one.

    Raises:
        UsageError: a name or task is unknown, or the number of classes is missing; at the first batch, a key is
            missing, a shape does not fit, or a metric returns something other than numbers; at a batch, a target on the
            host is no class; at the end of a loader, any other target was no class, or for ``regression`` was NaN or
            infinite.

    Example:
        >>> import torch
        >>> from assay.runner import DictRunner
        >>> class Same(torch.nn.Module):
        ...     def forward(self, image):
        ...         return {"logits": image}
        >>> items = [{"image": torch.tensor([1.0, 0.0]), "target": int(index == 0)} for index in range(4)]
        >>> loaders = {"valid": torch.utils.data.DataLoader(items, batch_size=2)}
        >>> runner = DictRunner()
        >>> metrics = Metrics(["accuracy", "f1"], num_classes=2)
        >>> runner.train(model=Same(), loaders=loaders, callbacks=[metrics], num_epochs=1)
        >>> runner.loader_metrics["accuracy"]
        0.75
    """

    def __init__(
        self,
        metrics: "Given | Sequence[Given] | Mapping[str, Given] | None" = None,
        *,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: float | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        prefix: str = "",
    ):
        super().__init__(METRICS, prefix)
        if task not in METRIC_TASKS:
            raise unknown_name("task", task, METRIC_TASKS)
        if class_names is not None and num_classes not in (None, len(class_names)):
            raise UsageError(f"num_classes must be that of class_names, {len(class_names)}, got {num_classes}.")
        self.task = task
        self.class_names = check_names(class_names)
        self.num_classes = num_classes if class_names is None else len(class_names)
        self.ignore_index: Any = ignore_index
        self.output_key = output_key
        self.target_key = target_key
        default = REGRESSION_METRICS if task == "regression" else ("accuracy",)
        named = _name_metrics(default if metrics is None else metrics)
        self.by_name = {name: self._check_name(metric) for name, metric in named.items() if isinstance(metric, str)}
        objects = {name: metric for name, metric in named.items() if not isinstance(metric, str)}
        self.by_object = {name: check_metric(name, metric) for name, metric in objects.items()}
        # A metric keeps things beside its states, which ``reset`` leaves as they are or forgets. They are set back to
        # what the user gave, so that every loader starts alike.
        self.initial = {name: plain_attributes(metric) for name, metric in self.by_object.items()}
        self.totals_: ClassTotals | RegressionTotals | None = None
        self.formulas_: Any = None  # of the metrics by name, for classes
        self.extremes_: dict[str, dict[str, Any]] = {}  # over the epochs so far, by loader

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.extremes_ = {}
        self.formulas_ = self._make_formulas(runner.engine.device)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept over epochs: the extremes of each ``MinMaxMetric``, by loader."""
        return {"extremes": to_plain(self.extremes_)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        # Checkpoints of former versions hold no extremes.
        self.extremes_ = from_plain(state.get("extremes", {}))

    def metrics_written(self, loader_key: str) -> list[str]:
        return [*self.by_name, *(name for each in self.by_object.items() for name in known_names(*each))]

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.totals_ = self._make_totals(runner.engine.device) if self.by_name else None
        # Not within a step, where what is sent to a GPU would make it wait.
        self.formulas_ = self.formulas_ or self._make_formulas(runner.engine.device)
        for name, metric in self.by_object.items():
            metric.reset()
            for part, attributes in self.initial[name]:
                vars(part).update(attributes)
            # After ``reset``, which forgets them: one metric serves all loaders, and each has extremes of its own.
            set_extremes(metric, self.extremes_.get(runner.loader_key, {}).get(name, {}))
            metric.to(runner.engine.device)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        take = pick_part if self.totals_ is None else pick_tensor  # a torchmetrics.Metric may take lists and dicts
        output, target = (detached(take(runner, key, "Metrics")) for key in (self.output_key, self.target_key))
        only_classes = isinstance(self.totals_, ClassTotals) and self._check_targets(runner, output, target)
        values = {} if self.totals_ is None else self._update_totals(self.totals_, output, target, only_classes)
        for name, metric in self.by_object.items():
            add_leaves(values, call_metric(name, metric, output, target, partial(kept_parts, runner)))
        # Values per class are for the epoch only; a batch metric is one number.
        numbers = {name: value for name, value in values.items() if not value.ndim}
        self.write_metrics(runner, runner.batch_metrics, numbers)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if runner.is_infer_loader:
            return
        if self.totals_ is not None:
            values, outside = self._values_over_ranks(self.totals_)
            # One read for all values and the count of bad targets.
            *numbers, lost = torch.stack([*values.values(), outside]).tolist()
            if lost:
                raise self._outside_error(runner.loader_key, int(lost))
            self.write_metrics(runner, runner.loader_metrics, dict(zip(values, numbers, strict=True)))
        for name, metric in self.by_object.items():
            # A collective: torchmetrics gathers its states itself.
            found = compute_metric(name, metric, self.class_names)
            self.write_metrics(runner, runner.loader_metrics, found)
            self.extremes_.setdefault(runner.loader_key, {})[name] = extremes(metric)

    def loader_state(self, runner: dl.IRunner) -> dict[str, Any]:
        """Return what was counted of the loader so far, in types that ``weights_only=True`` loads."""
        objects = {name: metric_to_plain(metric) for name, metric in self.by_object.items()}
        return {"totals": to_plain(self.totals_), "objects": objects}

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Any]) -> None:
        """Continue from what ``loader_state`` returned."""
        fresh = {} if self.totals_ is None else self.totals_.state
        self.totals_ = from_plain(state["totals"], self.totals_)
        if self.totals_ is not None:
            # A checkpoint of a former version may lack a part of the state that was added since.
            self.totals_.state = {**fresh, **self.totals_.state}
        for name, metric in self.by_object.items():
            metric_from_plain(metric, state["objects"][name])
            metric.to(runner.engine.device)

    def _make_totals(self, device: torch.device) -> ClassTotals | RegressionTotals:
        if self.task == "regression":
            return RegressionTotals(self.ignore_index, device)
        return ClassTotals(self.task, self._class_count(), self.ignore_index, device)

    def _make_formulas(self, device: torch.device) -> ClassMetrics | None:
        has_classes = self.by_name and self.task != "regression"
        return ClassMetrics(list(self.by_name.values()), self.task, device) if has_classes else None

    def _update_totals(
        self, totals: ClassTotals | RegressionTotals, output: Tensor, target: Tensor, only_classes: bool
    ) -> dict[str, Tensor]:
        """Add a batch to the totals, and return the values of the batch alone."""
        if isinstance(totals, RegressionTotals):
            if not is_paired(target.shape, output.shape, "regression"):
                raise UsageError(
                    f"Metrics(task='regression') needs a number for each target, got {self.output_key} "
                    f"{tuple(output.shape)} and {self.target_key} {tuple(target.shape)}."
                )
            batch = totals.update(output, target)
            return {name: regression_metric(metric, batch) for name, metric in self.by_name.items()}
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        predicted = predicted_classes(output, self.task)
        return self._class_values(totals.update(predicted, target, only_classes=only_classes))

    def _values_over_ranks(self, totals: ClassTotals | RegressionTotals) -> tuple[dict[str, Tensor], Tensor]:
        """Return the values over all samples of all ranks, and how many targets were invalid. A collective."""
        if isinstance(totals, RegressionTotals):
            # Not a plain sum: the spread of all targets follows from the means of the ranks, which are reduced first.
            state = totals.over_ranks(partial(_reduce_one, "max"), partial(_reduce_all, "sum"))
            values = {name: regression_metric(metric, state) for name, metric in self.by_name.items()}
            return values, state["outside"].sum()
        found = reduce_measure(totals)
        return self._class_values(found["totals"]), count_outside(found)

    def _class_values(self, totals: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.by_name, self.formulas_.compute(totals).unbind(), strict=True))

    def _outside_error(self, loader_key: str, outside: int) -> UsageError:
        if self.task != "regression":
            return self._class_targets().error(loader_key, outside)
        return UsageError(
            f"loader {loader_key!r}: Metrics needs finite targets, or ignore_index={self.ignore_index}, got {outside} "
            f"NaN or infinite ones in {self.target_key!r}; ignore_index=float('nan') leaves NaN out."
        )

    def _check_targets(self, runner: dl.IRunner, output: Tensor, target: Tensor) -> bool:
        """Raise if the batch does not fit, and return whether all targets are known to be classes that count."""
        keys = self.output_key, self.target_key
        check_shapes("Metrics", self.task, self._class_count(), (keys[0], output.shape), (keys[1], target.shape))
        return self._class_targets().check(runner, output.shape)

    def _class_targets(self) -> ClassTargets:
        return ClassTargets("Metrics", self.task, self._class_count(), self.ignore_index, self.target_key)

    def _class_count(self) -> int:
        # 0 is not known: allowed as long as no metric by name asks for it.
        return 2 if self.task == "binary" else int(self.num_classes or 0)

    def _check_name(self, name: str) -> str:
        known = REGRESSION_METRICS if self.task == "regression" else CLASS_METRICS
        if name not in known:
            raise unknown_name("metric", name, known, note=" (a torchmetrics.Metric may be given instead)")
        if self.task != "regression" and not self._class_count():
            raise UsageError(f"Metrics(metrics={name!r}) needs num_classes or class_names for the task {self.task!r}.")
        if name == "balanced_accuracy" and self.task == "multilabel":
            raise UsageError("balanced_accuracy is for the tasks 'binary' and 'multiclass', got 'multilabel'.")
        return name


def _name_metrics(metrics: Any) -> dict[str, Any]:
    """Return metrics by the name to log; it is ``""`` for a collection without one, which is logged by its keys."""
    if isinstance(metrics, Mapping):
        return dict(metrics)
    several = list(metrics) if isinstance(metrics, list | tuple) else [metrics]
    named: dict[str, Any] = {}
    for metric in several:
        # Only a collection has compute groups; asking for its class would import torchmetrics.
        name = metric if isinstance(metric, str) else "" if hasattr(metric, "compute_groups") else type(metric).__name__
        if name in named and not isinstance(metric, str):
            raise UsageError(
                f"metrics must have different names, got {name or 'a collection'!r} twice: pass a mapping."
            )
        named[name] = metric
    return named


def _reduce_one(reduction: str, value: Tensor) -> Tensor:
    return reduce_state({"value": value}, {"value": reduction})["value"]


def _reduce_all(reduction: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return reduce_state(state, dict.fromkeys(state, reduction))


def predicted_classes(output: Tensor, task: str) -> Tensor:
    """Return the classes that logits predict.

    Args:
        output: logits, in a shape that ``Metrics`` takes.
        task: one of ``TASKS``.

    Returns:
        int64: class numbers [N, ...] for ``multiclass``, otherwise 0 and 1 in the output's shape.
    """
    if task == "multiclass":
        return output.argmax(dim=1) if output.is_cuda or output.ndim == 2 else _argmax(output)
    return (output > 0).to(torch.int64)


def _argmax(output: Tensor) -> Tensor:
    """Return the largest class of each pixel as ``argmax`` does: [N, C, ...] to [N, ...]."""
    # On a CPU torch's own argmax over an inner axis takes four times as long.
    classes = output.shape[1]
    # NaN equals nothing, and argmax takes it for the largest.
    is_largest = (output == output.amax(dim=1, keepdim=True)).logical_or_(output.isnan())
    # Among equal ones argmax returns the first, which therefore has the largest rank.
    rank = torch.arange(classes, 0, -1, dtype=torch.uint8 if classes < 256 else torch.int32, device=output.device)
    found = (is_largest * rank.reshape(-1, *[1] * (output.ndim - 2))).amax(dim=1)
    return classes - found.to(torch.int64)
