"""Report: one HTML file about a run, made at its end."""

import logging
import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from catalyst import dl

from ...base.diagnostic import Diagnostic
from ...base.epoch_history import History, metrics_of_loaders, past_history
from ...base.order import LAST
from ...errors import UsageError
from ...support.runner_view import callbacks_of, folder_in_run
from ...support.unwrap import inside
from ...tensorboard.writer import Writer
from ...training.gradient_stats import GradientStats
from .gradient_table import GRADIENTS, NUMBERS, GradientTable
from .page import REPORT, write_report

_log = logging.getLogger("assay")


class Report(Diagnostic):
    """Writes one HTML file about the run when it ends, which opens anywhere, without a network or TensorBoard.

    ========================= ==========================================================================================
    file                      content
    ========================= ==========================================================================================
    report.html               settings, metrics by epoch, findings, classes, best and worst samples, gradients, time and
                              memory, environment, and the gallery of the samples; less than 10 MB, see
                              ``docs/report.md``
    results/gradients.csv     loader, epoch and parameter, and of its gradient the numbers of ``GradientStats`` and what
                              went wrong: ``vanished``, ``exploded``, ``dead``, ``missing``, ``broken``; with each epoch
    ========================= ==========================================================================================

    It shows what the files of the run folder hold, and is made by the main process after the last epoch. An error there
    is logged on one line and leaves the run as it is. ``assay report RUN`` makes it again, also of a run that was
    killed.

    Args:
        folder: of the run, from which it reads and to which it writes. None: the run's ``logdir``.
        page: whether the HTML file is made, which takes a second or two; without it, only the table of gradients.

    Raises:
        UsageError: at the start of the run, there is no folder, no logger, or a second callback of this kind.
    """

    one_a_run = True
    observed = ()  # its values are those of finished loaders
    counts_as_overhead = False

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, page: bool = True):
        super().__init__(order=LAST)
        self.folder, self.page = None if folder is None else Path(folder), page
        self.folder_ = self.folder
        self.gradients_: GradientTable | None = None
        self.history_: History = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        if sum(isinstance(inside(one), Report) for one in callbacks_of(runner)) > 1:
            raise UsageError("Report is about the whole run, so give it one Report.")
        super().on_experiment_start(runner)
        if self.is_mute_:
            return
        self.folder_ = folder_in_run(runner, self.folder, ".", type(self).__name__)
        self.gradients_ = GradientTable(self.folder_ / "results" / GRADIENTS)
        self.history_ = past_history(runner)

    def begin(self, runner: dl.IRunner) -> None:
        """Do nothing: it reads files."""

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Do nothing."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if not self.is_mute_:
            self.history_[runner.epoch_step] = metrics_of_loaders(runner.epoch_metrics)
            rows = _gradient_rows(runner)
            if rows and self.gradients_ is not None:
                add = partial(self.gradients_.add, runner.epoch_step, rows)
                self._first_writer().call(partial(_unless_it_fails, add))
        super().on_epoch_end(runner)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        # Waits for all that others have written.
        super().on_experiment_end(runner)
        if self.is_mute_ or self.folder_ is None or not self.page:
            return
        make = partial(_make, self.folder_, dict(runner.hparams or {}), dict(self.history_))
        writer = self._first_writer()
        writer.call(partial(_unless_it_fails, make))
        writer.drain()

    def _first_writer(self) -> Writer:
        return next(iter(self.writers_.values()))


def _gradient_rows(runner: dl.IRunner) -> list[list[str]]:
    """Return the rows of the table of gradients of the epoch that has just ended."""
    found = (one for one in map(inside, callbacks_of(runner)) if isinstance(one, GradientStats) and not one.prefix)
    stats = next(found, None)
    ended = {} if stats is None else stats.ended_
    return [
        [loader, str(runner.epoch_step), name, *map(_text, row), trouble]
        for loader, of in ended.items()
        if of.epoch == runner.epoch_step
        for name, row, trouble in of.rows(NUMBERS)
    ]


def _text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def _make(folder: Path, settings: Mapping[str, Any], history: History) -> None:
    write_report([folder], folder / REPORT, settings=settings, metrics=_by_name(history))


def _by_name(history: History) -> dict[tuple[str, str], dict[int, float]]:
    found: dict[tuple[str, str], dict[int, float]] = {}
    for epoch, loaders in history.items():
        for loader, metrics in loaders.items():
            for name, value in metrics.items():
                found.setdefault((loader, name), {})[epoch] = value
    return found


def _unless_it_fails(work: Any) -> None:
    # A run that has trained to its end is not lost for a page about it, whatever its files hold.
    try:
        work()
    except Exception as error:  # noqa: BLE001 - see above
        _log.warning("Report: %s", " ".join(f"{type(error).__name__}: {error}".split())[:500])
