"""Mends of Catalyst's loggers: hyper-parameters that they omit, and logs lost after an error."""

from typing import Any

from catalyst import dl
from catalyst.core.runner import IRunner
from tensorboardX.summary import hparams as hparams_summaries

from assay.callbacks.tensorboard.hparams_summaries import flatten
from assay.callbacks.training.hparams import HParams

from .fault import before, fault

_FOLDER = "_epoch_"  # where Catalyst's logger writes values that belong to no loader


@fault()
def hparams() -> bool:
    """TensorboardLogger does not log the hyper-parameters of a run."""
    if "log_hparams" in vars(dl.TensorboardLogger):
        return False
    dl.TensorboardLogger.log_hparams = _log_hparams
    return True


@fault()
def closing() -> bool:
    """After an error no logger is closed, and the last entries are lost."""
    before(IRunner, "on_exception", _close_loggers)
    return True


def _log_hparams(logger: Any, hparams: Any, runner: Any = None) -> None:
    """Replace ``TensorboardLogger.log_hparams``."""
    callbacks = runner.get_callbacks() if hparams else {}
    # HParams writes a row itself.
    if hparams and not any(isinstance(callback, HParams) for callback in callbacks.values()):
        logger._check_loader_key(_FOLDER)
        _, start, _ = hparams_summaries(flatten(hparams), {})
        logger.loggers[_FOLDER].file_writer.add_summary(start)


def _close_loggers(runner: Any, _: Any) -> None:
    runner.flush_log()
    runner.close_log()
