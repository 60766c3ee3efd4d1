"""What Catalyst computes of a whole loader: CMC, R2, scikit-learn's metrics, and models fitted to its samples."""

from collections.abc import Iterator
from typing import Any

import torch
from catalyst import dl
from catalyst.callbacks.metric import LoaderMetricCallback
from catalyst.callbacks.sklearn_model import SklearnModelCallback  # dl has it only beside pandas
from catalyst.metrics import CMCMetric, R2Squared, ReidCMCMetric
from catalyst.metrics._accumulative import AccumulativeMetric
from torch import Tensor

from assay.callbacks.distributed import from_main_rank, gather_objects

from .fault import before, fault, is_mended

_SUMS = ("num_examples", "delta_sum", "y_sum", "y_sq_sum")  # of R2Squared
_PARTS = "_parts_of_batches"


@fault(changes_numbers=True)
def collecting() -> bool:
    """Metrics of a whole loader count memory without samples where a sampler draws fewer, and fail on more."""
    setattr(AccumulativeMetric, "storage", property(_join, _hold))  # noqa: B010 - mypy knows no such attribute
    AccumulativeMetric.update = _collect
    SklearnModelCallback.on_loader_end = _fit
    return True


@fault(changes_numbers=True)
def loader_metrics() -> bool:
    """On several processes CMC is refused, and R2 and scikit-learn's metrics and models see one process's samples."""
    for callback in (dl.CMCScoreCallback, dl.ReidCMCScoreCallback):
        del callback.on_experiment_start  # all that it does is to refuse them
    for metric in (CMCMetric, ReidCMCMetric):
        del metric.reset
    before(LoaderMetricCallback, "on_loader_end", _share)
    SklearnModelCallback.on_loader_end = _fit
    return True


def _collect(metric: Any, **values: Tensor) -> None:
    """Stand for ``AccumulativeMetric.update``: take what comes, however much was expected."""
    parts = vars(metric).get(_PARTS) or {key: [] for key in metric.keys}
    for key, kept in parts.items():
        kept.append(values[key].detach().to("cpu", copy=True))
    vars(metric)[_PARTS] = parts
    metric.collected_samples += max((len(kept[-1]) for kept in parts.values()), default=0)
    metric.collected_batches += 1


def _join(metric: Any) -> dict[str, Tensor] | None:
    """Return all that was collected, [N, ...] by its key, or None before the first batch."""
    parts = vars(metric).get(_PARTS)
    if parts is None:
        return None
    for kept in parts.values():
        kept[:] = [torch.cat(kept)]
    return {key: kept[0] for key, kept in parts.items()}


def _hold(metric: Any, values: dict[str, Tensor] | None) -> None:
    vars(metric)[_PARTS] = None if values is None else {key: [value] for key, value in values.items()}


def _fit(callback: Any, runner: Any) -> None:
    """Stand for ``SklearnModelCallback.on_loader_end``."""
    if runner.loader_key != callback._train_loader:
        return
    if is_mended("loader_metrics"):
        _gather(callback.storage)
    keys = [key for key in (callback.feature_key, callback.target_key) if key]
    collected = callback.storage.collected_samples
    model = callback.model_fabric_fn()
    model.fit(*(callback.storage.storage[key][:collected].numpy() for key in keys))
    callback.model = from_main_rank(model) if is_mended("loader_metrics") else model


def _share(callback: Any, _: Any) -> None:
    for metric in _own_to_a_process(callback.metric):
        _gather(metric)


def _own_to_a_process(metric: Any) -> Iterator[Any]:
    """Yield the metric, or the one that it is made of, where it is known to see the samples of one process alone."""
    for part in (metric, *vars(metric).values()):
        if isinstance(part, AccumulativeMetric | R2Squared):
            yield part


def _gather(metric: Any) -> None:
    """Put the samples, or the sums, of all processes into the metric of each. A collective."""
    if isinstance(metric, R2Squared):
        sums = gather_objects([float(getattr(metric, name)) for name in _SUMS])
        for name, total in zip(_SUMS, torch.tensor(sums, dtype=torch.float64).sum(dim=0), strict=True):
            setattr(metric, name, total)
        return
    mine = {key: values[: metric.collected_samples] for key, values in (metric.storage or {}).items()}
    told = [values for values in gather_objects(mine) if values]
    if told:
        metric.storage = {key: torch.cat([values[key] for values in told]) for key in told[0]}
        metric.collected_samples = len(next(iter(metric.storage.values())))
