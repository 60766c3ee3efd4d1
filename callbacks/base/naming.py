"""Names of tags and metrics: prefixes for two callbacks of a kind, and a check that no name is written twice."""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

from catalyst import dl
from catalyst.callbacks.metrics.confusion_matrix import ConfusionMatrixCallback

from ..errors import UsageError
from ..support.runner_view import loaders_of
from ..support.unwrap import inside

_PREFIX = re.compile(r"[\w.-]+(/[\w.-]+)*")
_EXAMPLE = "prefix='second'"


class Named(dl.Callback):
    """Base of the callbacks that write tags or metrics: it adds a prefix to their names and refuses names in use.

    Two callbacks that write the same name at the same step hide each other, for example two of one kind for a model
    with two heads. The error is raised when the first loader starts, before the first step.

    Args:
        order: when the callback runs within an event.
        prefix: added to every tag and metric, as ``TAG/PREFIX`` and ``PREFIX/NAME``; made of letters, digits,
            ``_``, ``-``, ``.`` and ``/``. Empty: no prefix.

    Raises:
        UsageError: the prefix has other characters; at the start of a loader, another callback of the run writes a tag
            or metric of the same name in this loader.
    """

    # Whether it covers the run as a whole, so that a second one would only repeat the first.
    one_a_run: ClassVar[bool] = False

    # An argument that, like a prefix, gives two callbacks of a kind different names; for the error.
    also_apart: ClassVar[str] = ""

    # What it writes for every loader, without the prefix; ``tags`` and ``metrics_written`` say it of single loaders.
    own_tags: ClassVar[tuple[str, ...]] = ()
    own_metrics: ClassVar[tuple[str, ...]] = ()

    # Those of its metrics that TensorBoard shows after the others, so that the overview stays one.
    minor_metrics: ClassVar[tuple[str, ...]] = ()

    def __init__(self, order: int, prefix: str = ""):
        super().__init__(order=order)
        self.prefix = _check_prefix(prefix)
        self.latest_: dict[str, Any] = {}

    def named(self, name: str) -> str:
        """Return the full name of a metric: after the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def full_tag(self, tag: str) -> str:
        """Return the full name of a tag, by whose beginning TensorBoard sorts: the prefix comes last."""
        return f"{tag}/{self.prefix}" if self.prefix else tag

    def place(self, loader_key: str) -> str:
        """Return a loader's name for titles, with the prefix where there is one."""
        return f"{loader_key} {self.prefix}" if self.prefix else loader_key

    def tags(self, loader_key: str) -> Iterable[str]:
        """Return the tags that it writes for a loader, without the prefix; one per group of tags is enough."""
        return self.own_tags

    def metrics_written(self, loader_key: str) -> Iterable[str]:
        """Return the metrics that it writes for a loader, without the prefix; one per group of metrics is enough."""
        return self.own_metrics

    def write_metrics(self, runner: dl.IRunner, metrics: MutableMapping[str, Any], values: Mapping[str, Any]) -> None:
        """Add values to the metrics of a batch or of a loader, with the prefix.

        Raises:
            UsageError: the runner or another callback has written a metric of this name before.
        """
        named = {self.named(name): value for name, value in values.items()}
        # A runner may keep the metrics of the last batch, so a value that this callback wrote before is no clash.
        taken = sorted(name for name in named.keys() & metrics.keys() if metrics[name] is not self.latest_.get(name))
        if taken:
            raise UsageError(
                f"{_shown(self)} writes the metric {taken[0]!r} of loader {runner.loader_key!r}, which the runner or "
                f"another callback has written before: {_advise(self)}."
            )
        metrics.update(named)
        self.latest_.update(named)

    def on_loader_start(self, runner: dl.IRunner) -> None:
        """Check the names in all loaders of the epoch."""
        # All loaders at once, so that a clash in validation ends the run before an epoch is trained.
        for loader_key in loaders_of(runner):
            _check_names(runner, self, loader_key)


def _check_prefix(prefix: Any) -> str:
    if prefix != "" and not (isinstance(prefix, str) and _PREFIX.fullmatch(prefix)):
        raise UsageError(f"prefix must be of letters, digits, '_', '-', '.' and single '/' within, got {prefix!r}.")
    return str(prefix)


def _check_names(runner: dl.IRunner, callback: Named, loader_key: str) -> None:
    active = dict(_active_callbacks(runner, loader_key))
    key = next((key for key, one in active.items() if one is callback), None)
    if key is None:
        return
    own = _names_written(callback, loader_key)
    for other_key, other in active.items():
        if other is not callback and (shared := sorted(own & _names_written(other, loader_key))):
            kind, name = shared[0]
            raise UsageError(
                f"{_shown(callback)} and {_shown(other)} (callbacks {key!r} and {other_key!r}) both write the {kind} "
                f"{name!r} of loader {loader_key!r}, and one would hide the other: {_advise(callback)}."
            )


def _active_callbacks(runner: dl.IRunner, loader_key: str) -> Iterator[tuple[str, Any]]:
    """Return the callbacks that run in a loader of this epoch, by name, without Catalyst's wrappers."""
    for key, callback in runner.callbacks.items():
        is_active = getattr(callback, "filter_fn", None)
        if is_active is None or is_active(runner.epoch_step, loader_key):
            yield key, inside(callback)


def _names_written(callback: Any, loader_key: str) -> set[tuple[str, str]]:
    """Return what a callback, ours or one of Catalyst's, writes: ``tag`` or ``metric``, and the full name."""
    if isinstance(callback, Named):
        tags, metrics = callback.tags(loader_key), callback.metrics_written(loader_key)
        named = {("tag", callback.full_tag(tag)) for tag in tags}
        return named | {("metric", callback.named(name)) for name in metrics}
    # Catalyst's own callbacks have no common way to name what they write: each kind is read in its own way.
    if isinstance(callback, ConfusionMatrixCallback):
        return {("tag", callback.prefix)}
    if isinstance(callback, dl.MetricAggregationCallback):
        return {("metric", callback.metric_key)}
    metric = getattr(callback, "metric", None)
    return set() if metric is None else {("metric", name) for name in _names_of_metric(metric)}


def _names_of_metric(metric: Any) -> Iterator[str]:
    """Return the names of the main values of one of Catalyst's metrics."""
    prefix, suffix = getattr(metric, "prefix", None) or "", getattr(metric, "suffix", None) or ""
    name = getattr(metric, "metric_name_mean", getattr(metric, "metric_name", None))
    if not isinstance(name, str):
        return
    # Some of Catalyst's metrics have prefix and suffix in this name already, others add them when they compute.
    has_both = name.startswith(prefix) and name.endswith(suffix)
    if topk := getattr(metric, "topk", None):
        yield from (f"{prefix}{name}{k:02d}{suffix}" for k in topk)
    else:
        yield name if has_both else f"{prefix}{name}{suffix}"


def _shown(callback: Any) -> str:
    prefix = callback.prefix if isinstance(callback, Named) else ""
    return f"{type(callback).__name__}(prefix={prefix!r})" if prefix else type(callback).__name__


def _advise(callback: Named) -> str:
    name = type(callback).__name__
    if callback.one_a_run:
        return f"it is about the whole run, so give it one {name}"
    also = f", or {callback.also_apart}" if callback.also_apart else ""
    return f"pass {name} a prefix of its own, as in {name}({_EXAMPLE}, ...){also}"
