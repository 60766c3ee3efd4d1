"""Callbacks that choose, limit or watch loaders."""

import logging
from typing import TYPE_CHECKING, Any

from catalyst import dl
from catalyst.callbacks.misc import IEpochMetricHandlerCallback

from assay.callbacks.errors import UsageError, unknown_name
from assay.callbacks.wrapped import inside

if TYPE_CHECKING:
    from ..dict_runner import DictRunner

_FORGETFUL = (IEpochMetricHandlerCallback, dl.CheckpointCallback)
_log = logging.getLogger("assay")


def check_loaders(runner: "DictRunner") -> None:
    """Raise where a callback names a loader that there is not, or would put another one in its place."""
    callbacks = [inside(callback) for callback in runner.callbacks.values()]
    for callback in callbacks:
        if isinstance(callback, dl.BatchOverfitCallback):
            raise UsageError(
                "BatchOverfitCallback is not to be had with DictRunner, which shares out the loaders by itself: leave "
                "it out, and give the loaders of a data set of a few batches, as torch.utils.data.Subset."
            )
        for name in _loaders_of(callback):
            if name not in runner.loaders:
                raise unknown_name("loader", name, runner.loaders, f" of {type(callback).__name__}")
    forgetful = sorted({type(callback).__name__ for callback in callbacks if isinstance(callback, _FORGETFUL)})
    if forgetful and runner._resume is not None and runner.engine.is_main_process:
        _log.warning("%s: Catalyst's, which begin anew in a resumed run", " and ".join(forgetful))


def check_same_loaders(runner: "DictRunner") -> None:
    """Raise where a callback has put another loader in the place of one of the run's."""
    for name, loader in runner.loaders.items():
        if loader is not runner.all_loaders.get(name):
            raise UsageError(
                f"loader {name!r} was put in at the start of epoch {runner.epoch_step}, by a callback: DictRunner "
                "shares out the loaders that train() is given; give it all of them, and leave some out of an epoch by "
                "PeriodicLoaderCallback."
            )


def _loaders_of(callback: Any) -> list[str]:
    """Return the loaders that a stock callback names."""
    if isinstance(callback, dl.PeriodicLoaderCallback):
        return [*callback.loader_periods, callback.valid_loader_key]
    if isinstance(callback, IEpochMetricHandlerCallback | dl.CheckpointCallback | dl.SchedulerCallback):
        return [] if callback.loader_key is None else [callback.loader_key]
    return []
