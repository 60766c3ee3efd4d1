"""Tags of the metrics of a loader: which of them TensorBoard shows first."""

from collections.abc import Iterable
from typing import Any

from ..support.runner_view import callbacks_of, loss_terms
from ..support.unwrap import inside
from .naming import Named

LOSS = "loss"


def metric_tag(runner: Any, name: str) -> str:
    """Return the tag of a loader's metric.

    The loss and the metrics of the task come first. Where a callback says that one of its metrics is minor, and for the
    terms of a loss, there is a later group, as there is for the values of single classes.
    """
    if name == LOSS:
        return "1_overview/loss"
    if name.endswith("_bound"):
        return f"9_bounds/{name}"
    callbacks = [callback for callback in map(inside, callbacks_of(runner)) if isinstance(callback, Named)]
    minor = {callback.named(each) for callback in callbacks for each in callback.minor_metrics}
    if name in minor or name in {term.label for term in loss_terms(runner) or ()}:
        return f"3_metrics/{name}"
    return f"4_metrics_per_class/{name}" if "/" in _without_prefix(name, callbacks) else f"1_overview/metrics/{name}"


def batch_metric_tag(name: str) -> str:
    """Return the tag of a batch's metric, whose step is a number of samples and not an epoch."""
    return f"9_by_samples_seen/{name}"


def _without_prefix(name: str, callbacks: Iterable[Named]) -> str:
    prefixes = (f"{callback.prefix}/" for callback in callbacks if callback.prefix)
    return name.removeprefix(next(filter(name.startswith, prefixes), ""))
