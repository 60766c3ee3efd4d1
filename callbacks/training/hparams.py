"""HParams: the hyper-parameters of a run and its best metrics, in TensorBoard's HPARAMS tab."""

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

_RUN = "run"  # key of the writer for what belongs to no loader


class HParams(Diagnostic):
    """Fills TensorBoard's HPARAMS tab: one row per run, with the best value of one or several metrics.

    ========================= ======= =======================================================================
    tag, in train's folder    kind    step and content
    ========================= ======= =======================================================================
    ``10_best/LOADER/METRIC`` scalar  epoch; the best value so far; nothing as long as none was finite
    (HPARAMS tab)             hparams once; ``runner.hparams``, start, end, and whether the run was completed
    ========================= ======= =======================================================================

    The names of nested hyper-parameters are joined by dots, the values of lists by commas; values other than flags,
    numbers and strings are shown as text.

    A run that is resumed by ``DictRunner``, whose checkpoints keep the best values, continues the row of the first run.
    The row shows the hyper-parameters that the first run began with, and how the last one ended: the event file is
    truncated to the checkpoint, which removes the former end. The files of a stock logger are not truncated, and the
    server shows the first end.

    Args:
        metric: one or several of ``runner.epoch_metrics``, as ``LOADER/METRIC``.
        minimize: whether a smaller value is better; one value for all metrics, or one per metric.

    Raises:
        UsageError: an argument is out of range; at the start of the run, a loader is missing, or there are no
            hyper-parameters or no TensorBoard logger; at the end of the first epoch, a metric is missing.
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
        """Restore the best values, of the metrics that the run still has."""
        self.best_ = {name: value for name, value in state["best"].items() if name in self.minimize}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.best_, self.writers_ = {}, {}
        self.is_mute_ = writes_nothing(runner)
        if self.is_mute_:
            # It logs that nothing is written.
            find_writer(runner, None, asked_by=type(self).__name__)
            return
        for name in self.minimize:
            pick(runner.loaders, _split(name)[0], f"HParams(metric={name!r})", source_name="run's loaders")
        if not runner.hparams:
            raise UsageError("HParams needs hyper-parameters to show: pass train() hparams={'lr': ..., ...}, got none.")
        # One folder, not those of all loaders: the HPARAMS tab has one row per folder with a summary.
        writer = self.writers_[_RUN] = find_writer(runner, None, asked_by=type(self).__name__)
        # A logger of the runner's own has written the start itself, and a resumed run must not begin a second row.
        logged = any(isinstance(logger, HasWriters) for logger in runner.loggers.values())
        if not logged and runner.epoch_step == 0:
            writer.summary(session_start(flatten(runner.hparams)))

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return tuple(f"10_best/{name}" for name in self.minimize)

    def begin(self, runner: dl.IRunner) -> None:
        """Do nothing: metrics are read at the end of the epoch."""

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Do nothing."""

    def on_loader_end(self, runner: dl.IRunner) -> None:
        """Do nothing: the best values belong to no loader."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if self.is_mute_:
            return
        for name, minimize in self.minimize.items():
            loader, metric = _split(name)
            # A loader may be left out of some epochs.
            if loader not in runner.epoch_metrics:
                continue
            source = f"metrics of loader {loader!r}"
            value = float(pick(runner.epoch_metrics[loader], metric, f"HParams(metric={name!r})", source))
            best = self.best_.get(name)
            if math.isfinite(value) and (best is None or (value < best if minimize else value > best)):
                self.best_[name] = value
        values = {f"10_best/{name}": value for name, value in self.best_.items()}
        self.writers_[_RUN].scalars(values, runner.epoch_step)
        super().on_epoch_end(runner)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        for writer in self.writers_.values():
            writer.summary(session_end(succeeded=True))
        super().on_experiment_end(runner)

    def on_exception(self, runner: dl.IRunner) -> None:
        # Twice: the first call takes the error that the writer would raise at the next summary, the second flushes.
        super().on_exception(runner)
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
