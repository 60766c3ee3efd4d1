"""Check stock callbacks that choose, limit or watch loaders."""

import logging
from typing import Any

from catalyst import dl
from catalyst.callbacks.misc import IEpochMetricHandlerCallback

from assay.callbacks.errors import UsageError, unknown_name
from assay.callbacks.support.unwrap import inside

from ..parts.run_view import RunView

# Callbacks of Catalyst's that remember the best value so far, and save nothing of it.
_WITHOUT_STATE = (IEpochMetricHandlerCallback, dl.CheckpointCallback)
_log = logging.getLogger("assay")


def check_loaders(runner: RunView) -> None:
    """Raise where a callback names a loader that does not exist, or would replace one."""
    callbacks = [inside(callback) for callback in runner.callbacks.values()]
    for callback in callbacks:
        if isinstance(callback, dl.BatchOverfitCallback):
            raise UsageError(
                "BatchOverfitCallback is not supported with DictRunner, which distributes the loaders over ranks "
                "itself: leave it out, and pass loaders of a small data set, such as a torch.utils.data.Subset."
            )
        for name in _loaders_of(callback):
            if name not in runner.loaders:
                raise unknown_name("loader", name, runner.loaders, f" of {type(callback).__name__}")
    # Once per class and run: the main process speaks for all.
    forgetful = sorted({type(callback).__name__ for callback in callbacks if isinstance(callback, _WITHOUT_STATE)})
    if forgetful and runner._resume is not None and runner.engine.is_main_process:
        _log.warning("%s have no state, and start anew in a resumed run", " and ".join(forgetful))


def check_same_loaders(runner: RunView) -> None:
    """Raise where a callback has replaced a loader of the run."""
    # By identity: even a loader over the same data would bring its own order, and ranks would read different samples.
    for name, loader in runner.loaders.items():
        if loader is not runner.all_loaders.get(name):
            raise UsageError(
                f"loader {name!r} was replaced by a callback at the start of epoch {runner.epoch_step}: DictRunner "
                "distributes the loaders passed to train(); pass all of them, and leave some out of an epoch with "
                "PeriodicLoaderCallback."
            )


def _loaders_of(callback: Any) -> list[str]:
    """Return the loaders that a stock callback names."""
    if isinstance(callback, dl.PeriodicLoaderCallback):
        return [*callback.loader_periods, callback.valid_loader_key]
    if isinstance(callback, IEpochMetricHandlerCallback | dl.CheckpointCallback | dl.SchedulerCallback):
        return [] if callback.loader_key is None else [callback.loader_key]
    return []
