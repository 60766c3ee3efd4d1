"""The loggers and callbacks that ``logdir`` and ``verbose`` ask for, beside those that a run is given."""

import logging
from collections.abc import Mapping
from pathlib import Path

from catalyst import dl
from catalyst.core.logger import ILogger

from assay.callbacks.results.results import Results
from assay.callbacks.support.unwrap import inside
from assay.callbacks.tensorboard.find_writer import HasWriters, first_trained

from ..recipe.monitor import Monitor
from ..saving.checkpoints import Checkpoints
from ..saving.loggers import MetricsCsv, TensorBoardLogger
from .parts.run_view import RunView
from .progress import Progress

_log = logging.getLogger("assay")

_FORMER_FOLDER = "tensorboard"


def complete_loggers(run: RunView) -> dict[str, ILogger]:
    """Return the loggers of a run with those of TensorBoard and ``metrics.csv``, unless one of the kind is given."""
    loggers: dict[str, ILogger] = dict(run._loggers or {})
    if run._logdir is None:
        return loggers
    folder, given = Path(run._logdir), list(loggers.values())
    # By kind and not by name: a user's own logger of TensorBoard takes the place of this one.
    if not any(isinstance(logger, (HasWriters, dl.TensorboardLogger)) for logger in given):
        loggers["tensorboard"] = TensorBoardLogger(
            _event_folder(run, folder), log_every_steps=run.log_every_steps, run_loader=first_trained(run.get_loaders())
        )
    if not any(isinstance(logger, (MetricsCsv, dl.CSVLogger)) for logger in given):
        loggers["csv"] = MetricsCsv(folder / "metrics.csv")
    return loggers


def _event_folder(run: RunView, folder: Path) -> Path:
    """Return the folder of the loaders' event folders, which is a folder of its own in runs of former versions."""
    former = folder / _FORMER_FOLDER
    if run._resume is None or not former.is_dir():
        return folder
    _log.warning(
        "%s is of a former version of assay: the run goes on in its folders, but under the names that tags have now; "
        "its curves in TensorBoard end at the checkpoint, and new ones begin beside them.", former,
    )  # fmt: skip
    return former


def complete_callbacks(run: RunView) -> dict[str, dl.Callback]:
    """Return the callbacks of a run with a line per epoch, checkpoints and results, unless one of the kind is given."""
    given = run._callbacks or {}
    callbacks = dict(given) if isinstance(given, Mapping) else {str(i): each for i, each in enumerate(given)}
    # A callback in a wrapper of Catalyst's is given too.
    present = tuple(type(inside(callback)) for callback in callbacks.values())
    if run._verbose and Progress not in present:
        callbacks["progress"] = Progress(monitor=_monitor(run))
    if run._logdir is None:
        return callbacks
    folder, monitor = Path(run._logdir), _monitor(run)
    if Checkpoints not in present:
        monitors = [] if monitor is None else [monitor]
        callbacks["checkpoints"] = Checkpoints(folder / "checkpoints", monitors, load_best_on_end=run._load_best_on_end)
    if Results not in present:
        metric, minimize = (None, True) if monitor is None else (monitor.name, monitor.minimize)
        callbacks["results"] = Results(metric, minimize, folder / "results")
    return callbacks


def _monitor(run: RunView) -> Monitor | None:
    if not (run._valid_loader and run._valid_metric):
        return None
    return Monitor(run._valid_loader, run._valid_metric, run._minimize_valid_metric is not False)
