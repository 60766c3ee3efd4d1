"""The names that callbacks write under: a prefix tells two of a kind apart, and none hides another one in silence."""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

from catalyst import dl
from catalyst.callbacks.metrics.confusion_matrix import ConfusionMatrixCallback

from .errors import UsageError
from .runner_view import loaders_of
from .wrapped import inside

_PREFIX = re.compile(r"[\w.-]+(/[\w.-]+)*")
_EXAMPLE = "prefix='second'"


class Named(dl.Callback):
    """Base of the callbacks that write tags or metrics: it gives them their names, and refuses those taken by others.

    Two callbacks that write under one name at one step hide each other, as two of one kind do for a model with two
    heads. The error comes when the first loader starts, before the first step.

    Args:
        order: when the callback runs within an event.
        prefix: stands before every tag and metric, with a ``/`` between them; letters, digits, ``_``, ``-``, ``.`` and
            ``/``. Empty: there is none.

    Raises:
        UsageError: the prefix is none; when a loader starts, when another callback of the run writes a tag or a metric
            of the same name in the same loader.
    """

    one_a_run: ClassVar[bool] = False  # for those that are about the run, of which a second one says nothing more

    also_apart: ClassVar[str] = ""  # what else keeps two of a kind apart

    def __init__(self, order: int, prefix: str = ""):
        super().__init__(order=order)
        self.prefix = _check_prefix(prefix)
        self.latest_: dict[str, Any] = {}

    def named(self, name: str) -> str:
        """Return the full name of a tag or a metric."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def place(self, loader_key: str) -> str:
        """Return a loader's name for titles, with the prefix that tells pictures of two callbacks apart."""
        return f"{loader_key} {self.prefix}" if self.prefix else loader_key

    def tags(self, loader_key: str) -> Iterable[str]:
        """Return the tags that it writes in a loader's folder, without the prefix; of a group one is enough."""
        return ()

    def metrics_written(self, loader_key: str) -> Iterable[str]:
        """Return the metrics that it writes for a loader, without the prefix; of a group one is enough."""
        return ()

    def write_metrics(self, runner: dl.IRunner, metrics: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
        """Add values to the metrics of a batch or of a loader, with the prefix.

        Raises:
            UsageError: one is there already, of the runner's own or of another callback.
        """
        named = {self.named(name): value for name, value in values.items()}
        # What it wrote of the batch before may still be there, where a runner keeps that.
        taken = sorted(name for name in named.keys() & metrics.keys() if metrics[name] is not self.latest_.get(name))
        if taken:
            raise UsageError(
                f"{_shown(self)} writes the metric {taken[0]!r} of loader {runner.loader_key!r}, which the runner or "
                f"another callback has written before: {_advice(self)}."
            )
        metrics.update(named)
        self.latest_.update(named)

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Check the names, of all loaders of the epoch."""
        for loader_key in loaders_of(runner):
            _check_names(runner, self, loader_key)


def _check_prefix(prefix: Any) -> str:
    if prefix != "" and not (isinstance(prefix, str) and _PREFIX.fullmatch(prefix)):
        raise UsageError(f"prefix must be of letters, digits, '_', '-', '.' and single '/' within, got {prefix!r}.")
    return str(prefix)


def _check_names(runner: dl.IRunner, callback: Named, loader_key: str) -> None:
    """Raise where a callback and another one of the run write under one name in a loader."""
    active = dict(_active(runner, loader_key))
    key = next((key for key, one in active.items() if one is callback), None)
    if key is None:
        return
    own = _names(callback, loader_key)
    for other_key, other in active.items():
        if other is not callback and (shared := sorted(own & _names(other, loader_key))):
            kind, name = shared[0]
            raise UsageError(
                f"{_shown(callback)} and {_shown(other)} (callbacks {key!r} and {other_key!r}) both write the {kind} "
                f"{name!r} of loader {loader_key!r}, and one would hide the other: {_advice(callback)}."
            )


def _active(runner: dl.IRunner, loader_key: str) -> Iterator[tuple[str, Any]]:
    """Return the callbacks that run in a loader of this epoch, by name, from within Catalyst's wrappers."""
    for key, callback in runner.callbacks.items():
        is_active = getattr(callback, "filter_fn", None)
        if is_active is None or is_active(runner.epoch_step, loader_key):
            yield key, inside(callback)


def _names(callback: Any, loader_key: str) -> set[tuple[str, str]]:
    """Return what a callback, of ours or of Catalyst's, writes: ``tag`` or ``metric``, and the full name."""
    if isinstance(callback, Named):
        tags, metrics = callback.tags(loader_key), callback.metrics_written(loader_key)
        named = {("tag", callback.named(name)) for name in tags}
        return named | {("metric", callback.named(name)) for name in metrics}
    if isinstance(callback, ConfusionMatrixCallback):
        return {("tag", callback.prefix)}
    if isinstance(callback, dl.MetricAggregationCallback):
        return {("metric", callback.metric_key)}
    metric = getattr(callback, "metric", None)
    return set() if metric is None else {("metric", name) for name in _names_of_metric(metric)}


def _names_of_metric(metric: Any) -> Iterator[str]:
    """Return the names of the main values of a metric of Catalyst."""
    prefix, suffix = getattr(metric, "prefix", None) or "", getattr(metric, "suffix", None) or ""
    name = getattr(metric, "metric_name_mean", getattr(metric, "metric_name", None))
    if not isinstance(name, str):
        return
    has_both = name.startswith(prefix) and name.endswith(suffix)  # some of them put these there themselves
    if topk := getattr(metric, "topk", None):
        yield from (f"{prefix}{name}{k:02d}{suffix}" for k in topk)
    else:
        yield name if has_both else f"{prefix}{name}{suffix}"


def _shown(callback: Any) -> str:
    prefix = callback.prefix if isinstance(callback, Named) else ""
    return f"{type(callback).__name__}(prefix={prefix!r})" if prefix else type(callback).__name__


def _advice(callback: Named) -> str:
    name = type(callback).__name__
    if callback.one_a_run:
        return f"it is about the whole run, so give it one {name}"
    also = f", or {callback.also_apart}" if callback.also_apart else ""
    return f"pass {name} a prefix of its own, as in {name}({_EXAMPLE}, ...){also}"
