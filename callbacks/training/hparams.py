"""HParams: a run's hyper-parameters beside its best metrics, in TensorBoard's HPARAMS tab."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from catalyst import dl

from ..base.diagnostic import Diagnostic
from ..base.order import HPARAMS
from ..errors import UsageError
from ..keys import pick
from ..tensorboard.find_writer import HasWriters, find_writer, writes_nothing
from ..tensorboard.hparams_summaries import flatten, session_end, session_start
from ..tensorboard.writer import Writer

_FOLDER = "run"


class HParams(Diagnostic):
    """Fills TensorBoard's HPARAMS tab: one row per run, with the best value of one or several metrics.

    ========================= ======= =======================================================================
    tag, in the folder `run`  kind    step and content
    ========================= ======= =======================================================================
    ``best/LOADER/METRIC``    scalar  epoch; the best value up to it; nothing while no value was finite
    (HPARAMS tab)             hparams once; ``runner.hparams``, start, end, and whether the run came to its end
    ========================= ======= =======================================================================

    Nested hyper-parameters are joined by dots, lists by commas; what is no flag, number or string is shown as text.
    A resumed run goes on with the row and the best values of the first (with ``DictRunner``, whose checkpoints keep
    them). Its row shows the hyper-parameters that the run was begun with, and how it ended at last: the event file is
    cut back to the checkpoint, without the end before. Of a stock logger's files, which are not, the server shows the
    first end.

    Args:
        metric: one or several of ``runner.epoch_metrics``, as ``LOADER/METRIC``.
        minimize: whether a smaller value is better; one for all metrics, or one each.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when a loader is missing, or the run has no
            hyper-parameters or no TensorBoard logger; at the end of the first epoch, when a metric is missing.
    """

    one_a_run = True
    observed = ()  # its values are those of finished loaders
    counts_as_overhead = False  # a run has it without diagnostics too

    def __init__(self, metric: str | Sequence[str] = "valid/loss", minimize: bool | Sequence[bool] = True):
        super().__init__(order=HPARAMS)
        self.minimize = _pair_up(metric, minimize)
        self.best_: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the best values so far."""
        return {"best": dict(self.best_)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the best values of the run before."""
        self.best_ = {name: value for name, value in state["best"].items() if name in self.minimize}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.best_, self.writers_ = {}, {}
        self.is_mute_ = writes_nothing(runner)
        if self.is_mute_:
            find_writer(runner, _FOLDER, asked_by=type(self).__name__)  # which says so
            return
        for name in self.minimize:
            pick(runner.loaders, _split(name)[0], f"HParams(metric={name!r})", source_name="run's loaders")
        if not runner.hparams:
            raise UsageError("HParams needs hyper-parameters to show: pass train() hparams={'lr': ..., ...}, got none.")
        writer = self.writers_[_FOLDER] = find_writer(runner, _FOLDER, asked_by=type(self).__name__)
        logged = any(isinstance(logger, HasWriters) for logger in runner.loggers.values())
        if not logged and runner.epoch_step == 0:
            writer.summary(session_start(flatten(runner.hparams)))

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return tuple(f"best/{name}" for name in self.minimize)

    def begin(self, runner: dl.IRunner) -> None:
        """Do nothing: an epoch is looked at when it has ended."""

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Do nothing."""

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """Do nothing: the folder ``run`` is no loader's."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if self.is_mute_:
            return
        for name, minimize in self.minimize.items():
            loader, metric = _split(name)
            if loader not in runner.epoch_metrics:  # this epoch leaves it out
                continue
            source = f"metrics of loader {loader!r}"
            value = float(pick(runner.epoch_metrics[loader], metric, f"HParams(metric={name!r})", source))
            best = self.best_.get(name)
            if math.isfinite(value) and (best is None or (value < best if minimize else value > best)):
                self.best_[name] = value
        values = {f"best/{name}": value for name, value in self.best_.items()}
        self.writers_[_FOLDER].scalars(values, runner.epoch_step)
        super().on_epoch_end(runner)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        for writer in self.writers_.values():
            writer.summary(session_end(succeeded=True))
        super().on_experiment_end(runner)

    def on_exception(self, runner: dl.IRunner) -> None:
        super().on_exception(runner)  # raises nothing, and takes what the writer has to raise
        for writer in self.writers_.values():
            writer.summary(session_end(succeeded=False))
        super().on_exception(runner)


def _split(name: str) -> tuple[str, str]:
    loader, _, metric = name.partition("/")
    return loader, metric


def _pair_up(metric: str | Sequence[str], minimize: bool | Sequence[bool]) -> dict[str, bool]:
    metrics = [metric] if isinstance(metric, str) else list(metric)
    directions = [minimize] * len(metrics) if isinstance(minimize, bool) else list(minimize)
    if not metrics or len(set(metrics)) != len(metrics):
        raise UsageError(f"metric must name one or several different metrics, got {metric!r}.")
    for name in metrics:
        if not all(_split(name)):
            raise UsageError(f"metric must read LOADER/METRIC, like 'valid/loss', got {name!r}.")
    if len(directions) != len(metrics):
        raise UsageError(f"minimize must be one value, or one for each of {metrics}, got {minimize!r}.")
    return dict(zip(metrics, directions, strict=True))
