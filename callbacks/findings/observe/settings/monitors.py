"""The metrics that decide on the best epoch."""

from collections.abc import Iterator
from typing import Any

from catalyst import dl
from catalyst.callbacks.misc import IEpochMetricHandlerCallback

from ....support.runner_view import callbacks_of, validated_metric
from ....support.unwrap import inside
from ...probe.settings_probe import MonitorProbe


def observe_monitors(runner: dl.IRunner) -> tuple[MonitorProbe, ...]:
    """Return the metrics that checkpoints, early stopping and ``train(valid_metric=...)`` go by, each once.

    Those that checkpoints go by come first, as they decide.
    """
    callbacks = sorted(map(inside, callbacks_of(runner)), key=lambda one: not isinstance(one, dl.ICheckpointCallback))
    found = [monitor for callback in callbacks for monitor in _of_callback(callback)]
    given = validated_metric(runner)
    return tuple(dict.fromkeys([*found, *([] if given is None else [MonitorProbe(*given)])]))


def _of_callback(callback: Any) -> Iterator[MonitorProbe]:
    """Yield what a callback goes by: assay's own have monitors, and those of Catalyst have keys."""
    if isinstance(callback, dl.CheckpointCallback):
        # Without a direction it keeps the last epochs, whatever its metric.
        if callback.metric_key and getattr(callback.on_epoch_end, "__name__", "") == "on_epoch_end_best":
            yield MonitorProbe(str(callback.loader_key), callback.metric_key, bool(callback._minimize))
    elif isinstance(callback, IEpochMetricHandlerCallback):
        yield MonitorProbe(callback.loader_key, callback.metric_key, bool(callback.is_better.minimize))
    for monitor in [*_listed(getattr(callback, "monitors", ())), getattr(callback, "monitor", None)]:
        if all(hasattr(monitor, name) for name in ("loader", "metric", "minimize")):
            yield MonitorProbe(monitor.loader, monitor.metric, bool(monitor.minimize))


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else []
