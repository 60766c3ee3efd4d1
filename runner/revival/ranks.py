"""Mends of what several processes must agree on: metrics, gathered values, and when to stop."""

from collections.abc import Mapping
from typing import Any

from catalyst.callbacks.metric import BatchMetricCallback
from catalyst.core.runner import IRunner
from catalyst.utils import distributed

from assay.callbacks.support.distributed import gather_objects

from .fault import after, before, fault, replace_everywhere


@fault()
def gathering() -> bool:
    """Metrics of several processes are gathered through the GPU, even without one."""
    replace_everywhere(distributed.all_gather, gather_objects)
    return True


@fault(changes_numbers=True)
def means() -> bool:
    """A mean over processes ignores how many samples each had, and a project's own metrics are one process's."""
    BatchMetricCallback.on_loader_end = _end_metric
    before(IRunner, "on_loader_end", _average_own)
    return True


@fault()
def stopping() -> bool:
    """Each process decides by itself whether to stop early, and one that continues alone waits forever."""
    for event in ("on_loader_end", "on_epoch_end"):
        after(IRunner, event, _agree_to_stop)
    return True


def _end_metric(callback: Any, runner: Any) -> None:
    """Replace ``BatchMetricCallback.on_loader_end``."""
    runner.loader_metrics.update(_mean_over_samples(runner, callback.metric.compute_key_value()))


def _average_own(runner: Any, _: Any) -> None:
    """Average the metrics that a project's own code added to a loader's; values that agree already are kept."""
    runner.loader_metrics.update(_mean_over_samples(runner, runner.loader_metrics))


def _mean_over_samples(runner: Any, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean of each metric over processes, weighted by their samples of this loader. A collective."""
    if runner.engine.num_processes == 1:
        return dict(metrics)
    # As numbers, as tensors would be unpickled on the device of another process.
    mine = {key: float(value) for key, value in metrics.items()}
    shares = gather_objects((runner.loader_sample_step, mine))
    means = {}
    for key, value in mine.items():
        known = [(samples, others[key]) for samples, others in shares if key in others]
        # Equal values are kept as they are: a weighted mean of them may differ in the last bit.
        differs = any(other != value for _, other in known)
        means[key] = sum(n * other for n, other in known) / sum(n for n, _ in known) if differs else value
    return means


def _agree_to_stop(runner: Any, _: Any) -> None:
    if runner.engine.num_processes > 1:  # a collective: all must leave in the same epoch
        runner.need_early_stop = any(gather_objects(runner.need_early_stop))
