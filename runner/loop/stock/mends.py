"""Mend the stock callbacks of a run: means over ranks, checkpoints, transforms."""

from functools import partial
from typing import Any

from catalyst import dl
from catalyst.callbacks.metric import _MetricCallback
from torch import nn

from assay.callbacks.errors import UsageError
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.unwrap import inside

from ...revival.checkpoints import end_epoch
from ...revival.fault import mend
from ...revival.transforms import transform_values
from ..parts.run_view import RunView


def mend_callbacks(runner: RunView) -> None:
    """Mend the callbacks of a run, also inside wrappers.

    Raises:
        UsageError: a callback resumes from a checkpoint of Catalyst's, or saves weights that its metric is not of.
    """
    # Instances are mended, not classes: other runners of the process keep Catalyst's behaviour.
    callbacks = [inside(callback) for callback in runner.callbacks.values()]
    if runner.engine.num_processes > 1 and any(isinstance(callback, _MetricCallback) for callback in callbacks):
        for name in ("gathering", "collecting", "loader_metrics"):  # without, metrics are of one process, or fail
            mend(name)
    stock_end = dl.BatchMetricCallback.on_loader_end
    for callback in callbacks:
        if isinstance(callback, dl.BatchMetricCallback) and type(callback).on_loader_end is stock_end:
            callback.on_loader_end = partial(_end_metric, callback)
        elif isinstance(callback, dl.CheckpointCallback):
            _mend_checkpoint(runner, callback)
        elif isinstance(callback, dl.BatchTransformCallback) and callback.input_key is not None:
            callback._handle_batch = partial(transform_values, callback)


def _end_metric(callback: Any, runner: Any) -> None:
    """Replace ``BatchMetricCallback.on_loader_end``: weight each rank's mean by its samples. A collective."""
    # A rank without a batch has no mean; it still takes part in the collective, with 0 samples.
    samples = sum(one.samples for one in runner.rank_batches)
    mine = {name: float(value) for name, value in callback.metric.compute_key_value().items()} if samples else {}
    if runner.engine.num_processes > 1:
        shares = [share for share in gather_objects((samples, mine)) if share[0]]
        total = sum(count for count, _ in shares)
        names = dict.fromkeys(name for _, values in shares for name in values)
        mine = {name: sum(count * values[name] for count, values in shares) / total for name in names}
    runner.loader_metrics.update(mine)


def _mend_checkpoint(runner: RunView, callback: Any) -> None:
    if callback._resume_runner is not None or callback._resume_model is not None:
        raise UsageError(
            "resume_runner and resume_model of CheckpointCallback are not supported with DictRunner: load the weights "
            "into the model before train(), or continue a run of assay with train(resume=RUN)."
        )
    if runner.ema_decay is not None and callback.metric_key is not None:
        raise UsageError(
            "CheckpointCallback would save the trained weights, but with ema_decay the metrics are of their average: "
            "leave it out; with a logdir the runner's own checkpoints hold both."
        )
    # Catalyst's constructor chooses one of two methods: only the one that keeps the best file has the fault.
    if callback.on_epoch_end == callback.on_epoch_end_best:
        callback.on_epoch_end = partial(end_epoch, callback)
    callback._save = partial(_save_once, callback)


def _save_once(callback: Any, runner: Any, content: Any, prefix: str) -> str:
    """Replace ``CheckpointCallback._save``: only the main process writes, and the others wait for the file."""
    # The engine already does so for modules, and waits inside: there every process has to call it.
    by_engine = callback.mode == "model" and isinstance(content, nn.Module)
    if by_engine or runner.engine.is_main_process:
        type(callback)._save(callback, runner, content, prefix)
    runner.engine.wait_for_everyone()
    return f"{prefix}.pth"
