"""Decide whether a run has overfitted a few batches, and name the classes in them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from assay.callbacks.metrics.batch_metrics import TASKS, Metrics

from .monitor import History, Monitor

_WANTED_METRIC = 0.95  # of at most 1
_WANTED_LOSS = 0.1  # share of the loss in the first epoch
_LISTED = 8  # classes that are named
_MEANS_OVER_LABELS = ("f1", "iou", "precision", "recall")


@dataclass(frozen=True)
class Classes:
    """The classes that occur in some batches.

    Attributes:
        names: of all classes or labels.
        present: numbers of the classes that are true of some sample.
        means: names of metrics that are means over all labels, in which an absent label counts as 0.
    """

    names: Sequence[str]
    present: Sequence[int]
    means: Sequence[str] = ()

    @property
    def are_distinguishable(self) -> bool:
        """Whether a constant prediction would be wrong for some sample."""
        return len(self.present) > 1 or bool(self.means and self.present)

    def over_present(self, metric: str, value: float) -> float:
        """Return the value of a metric as a mean over the labels that occur."""
        # Absent labels have added 0 to the sum: only the divisor changes.
        return value * len(self.names) / len(self.present) if metric in self.means and self.present else value

    def __str__(self) -> str:
        some = ", ".join(self.names[index] for index in self.present[:_LISTED])
        more = ", ..." if len(self.present) > _LISTED else ""
        named = f" ({some}{more})" if some else ""
        return f"classes in the batches: {len(self.present)} of {len(self.names)}{named}"


def classes_in(loader: DataLoader[Any], callbacks: Iterable[Any]) -> Classes | None:
    """Return which classes occur in the samples of a loader, according to the first ``Metrics`` that counts classes.

    Returns:
        None if there is no such callback, or the items of the data set have no target under its key.
    """
    counting = [one for one in callbacks if isinstance(one, Metrics) and one.by_name and one.task in TASKS]
    items = [loader.dataset[index] for index in chain.from_iterable(loader.batch_sampler or ())] if counting else []
    metrics = counting[0] if counting else None
    items = [item for item in items if isinstance(item, Mapping)]  # anything else has no target under a key
    if metrics is None or not items or not all(metrics.target_key in item for item in items):
        return None
    count = 2 if metrics.task == "binary" else int(metrics.num_classes or 0)
    present = set[int]().union(*(_true_classes(item[metrics.target_key], metrics, count) for item in items))
    means = [name for name, metric in metrics.by_name.items() if metric in _MEANS_OVER_LABELS]
    names = [str(name) for name in metrics.class_names or range(count)]
    return Classes(names, sorted(present), means if metrics.task == "multilabel" else ())


def _true_classes(target: Any, metrics: Metrics, count: int) -> set[int]:
    values = np.asarray(target)
    known = np.ones(values.shape, bool) if metrics.ignore_index is None else values != metrics.ignore_index
    if metrics.task == "multilabel":
        return set(np.flatnonzero(((values > 0.5) & known).reshape(count, -1).any(axis=1)).tolist())
    if metrics.task == "binary":
        return set((values[known] > 0.5).astype(int).tolist())
    if values.dtype.kind == "f" and values.ndim and values.shape[0] == count:  # shares of the classes
        return set(np.unique(values.argmax(axis=0)).tolist())
    found = np.unique(values[known].astype(np.int64)).tolist()
    return {label for label in found if 0 <= label < count}


def overfit_verdict(history: History, monitor: Monitor, count: int, classes: Classes | None = None) -> str:
    """Return a line that says whether a run has overfitted its ``count`` batches, with figures and classes.

    One of two conditions suffices: the monitor's metric, if it is maximized and at most 1, has reached 0.95 in some
    epoch, on the training loader or its own; or the training loss has fallen to a tenth of its value in the first
    epoch. Metrics of labels count only the labels that occur. Batches of a single class prove nothing, as a constant
    prediction fits them.
    """
    # Either loader will do: both have the same samples, but in evaluation mode running means follow a few steps late.
    start = history[min(history)]
    key = next(key for key in start if key.startswith("train"))
    by_loss, loss = _loss_figures(Monitor(key, "loss", minimize=True), history)
    by_metric, metric = _metric_figures(key, monitor, history, classes)
    figures = [loss] if metric is None else [metric, loss] if by_metric or not by_loss else [loss, metric]
    word, advice = ("yes", "") if by_loss or by_metric else ("no", _ADVICE)
    seen = "" if classes is None else f"; {classes}"
    if word == "yes" and classes is not None and not classes.are_distinguishable:
        word, seen = "cannot tell", f"{seen}, which a constant prediction fits: raise --overfit-batches"
    return f"overfits {count} batches: {word}: {'; '.join(figures)}{seen}{advice}"


_ADVICE = "; try more --epochs or another --lr, then look at targets, loss and model"


def _loss_figures(loss: Monitor, history: History) -> tuple[bool, str]:
    first, best = loss.value(history[min(history)]), _best_value(loss, history)
    wanted = _WANTED_LOSS * first
    return (
        0 <= best <= wanted,  # a negative loss has no zero to fall to
        f"{loss.name} {first:.4g} at first and {best:.4g} at best, at most {wanted:.4g} is wanted",
    )


def _metric_figures(key: str, monitor: Monitor, history: History, classes: Classes | None) -> tuple[bool, str | None]:
    start = history[min(history)]
    found = [Monitor(one, monitor.metric, minimize=False) for one in dict.fromkeys((key, monitor.loader))]
    # A metric above 1 has no known best value.
    found = [one for one in found if one.metric in start[one.loader] and _best_value(one, history) <= 1]
    if monitor.minimize or not found:
        return False, None
    best = max(found, key=lambda one: _best_value(one, history))
    values = [best.value(start), _best_value(best, history)]
    if classes is not None:
        values = [classes.over_present(best.metric, value) for value in values]
    of = " (of the labels in the batches)" if classes is not None and best.metric in classes.means else ""
    figures = f"{best.name}{of} {values[0]:.4g} at first and {values[1]:.4g} at best"
    return values[1] >= _WANTED_METRIC, f"{figures}, at least {_WANTED_METRIC} is wanted"


def _best_value(monitor: Monitor, history: History) -> float:
    epoch = monitor.best(history)
    return math.nan if epoch is None else monitor.value(history[epoch])
