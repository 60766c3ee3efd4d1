"""Mends of Catalyst's metrics of whole loaders: CMC, R2, scikit-learn's metrics, and models fitted to samples."""

from collections.abc import Iterator
from typing import Any

import torch
from catalyst import dl
from catalyst.callbacks.metric import LoaderMetricCallback
from catalyst.callbacks.sklearn_model import SklearnModelCallback  # dl has it only beside pandas
from catalyst.metrics import CMCMetric, R2Squared, ReidCMCMetric
from catalyst.metrics._accumulative import AccumulativeMetric
from torch import Tensor

from assay.callbacks.support.distributed import from_main_rank, gather_objects

from .fault import before, fault, is_mended

_SUMS = ("num_examples", "delta_sum", "y_sum", "y_sq_sum")  # of R2Squared
_PARTS = "_parts_of_batches"


@fault(changes_numbers=True)
def collecting() -> bool:
    """Metrics of a whole loader count uninitialized memory where a sampler draws fewer samples, and fail on more."""
    setattr(AccumulativeMetric, "storage", property(_join_parts, _replace_parts))  # noqa: B010 - mypy knows no such attribute
    AccumulativeMetric.update = _collect_batch
    SklearnModelCallback.on_loader_end = _fit_model
    return True


@fault(changes_numbers=True)
def loader_metrics() -> bool:
    """On several processes CMC is rejected, and R2 and scikit-learn's metrics and models see one process's samples."""
    for callback in (dl.CMCScoreCallback, dl.ReidCMCScoreCallback):
        del callback.on_experiment_start  # all it does is refuse several processes
    for metric in (CMCMetric, ReidCMCMetric):
        del metric.reset
    before(LoaderMetricCallback, "on_loader_end", _gather_metrics)
    SklearnModelCallback.on_loader_end = _fit_model
    return True


def _collect_batch(metric: Any, **values: Tensor) -> None:
    """Replace ``AccumulativeMetric.update``: keep every sample, however many were expected."""
    parts = vars(metric).get(_PARTS) or {key: [] for key in metric.keys}
    for key, kept in parts.items():
        kept.append(values[key].detach().to("cpu", copy=True))  # a copy, as a project may change its batch in place
    vars(metric)[_PARTS] = parts
    metric.collected_samples += max((len(kept[-1]) for kept in parts.values()), default=0)
    metric.collected_batches += 1


def _join_parts(metric: Any) -> dict[str, Tensor] | None:
    """Return everything collected, [N, ...] by key; None before the first batch."""
    parts = vars(metric).get(_PARTS)
    if parts is None:
        return None
    for kept in parts.values():
        kept[:] = [torch.cat(kept)]  # so that reading it again costs nothing
    return {key: kept[0] for key, kept in parts.items()}


def _replace_parts(metric: Any, values: dict[str, Tensor] | None) -> None:
    vars(metric)[_PARTS] = None if values is None else {key: [value] for key, value in values.items()}


def _fit_model(callback: Any, runner: Any) -> None:
    """Replace ``SklearnModelCallback.on_loader_end``."""
    if runner.loader_key != callback._train_loader:
        return
    if is_mended("loader_metrics"):
        _gather_samples(callback.storage)
    keys = [key for key in (callback.feature_key, callback.target_key) if key]
    collected = callback.storage.collected_samples
    model = callback.model_fabric_fn()
    model.fit(*(callback.storage.storage[key][:collected].numpy() for key in keys))
    # One model for all: fits that draw at random would differ between processes.
    callback.model = from_main_rank(model) if is_mended("loader_metrics") else model


def _gather_metrics(callback: Any, _: Any) -> None:
    for metric in _metrics_of_one_process(callback.metric):
        _gather_samples(metric)


def _metrics_of_one_process(metric: Any) -> Iterator[Any]:
    """Yield the metric, and those in its attributes, that are known to see the samples of one process only."""
    for part in (metric, *vars(metric).values()):
        if isinstance(part, AccumulativeMetric | R2Squared):
            yield part


def _gather_samples(metric: Any) -> None:
    """Give the metric of each process the samples, or the sums, of all. A collective."""
    if isinstance(metric, R2Squared):
        sums = gather_objects([float(getattr(metric, name)) for name in _SUMS])
        for name, total in zip(_SUMS, torch.tensor(sums, dtype=torch.float64).sum(dim=0), strict=True):
            setattr(metric, name, total)
        return
    mine = {key: values[: metric.collected_samples] for key, values in (metric.storage or {}).items()}
    shares = [values for values in gather_objects(mine) if values]
    if shares:
        metric.storage = {key: torch.cat([values[key] for values in shares]) for key in shares[0]}
        metric.collected_samples = len(next(iter(metric.storage.values())))
