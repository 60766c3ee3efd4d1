"""Progress of a run: a bar in a terminal, and a table of the epochs everywhere."""

import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from catalyst import dl
from torch import Tensor

from assay.callbacks.base.order import PROGRESS
from assay.callbacks.support.host_copy import HostCopy

from ..recipe.monitor import Monitor
from .epoch_table import EpochTable, shows_colour, terminal_width
from .notebook import NotebookTable, in_notebook, make_bar


class Progress(dl.Callback):
    """Shows a bar with epoch, loader, remaining time and loss, and prints a line of a table at the end of each epoch.

    The bar is drawn only where stderr is a terminal, and in a notebook, which shows the table as HTML. The table holds
    the metrics that every batch has, and those in ``metrics``, as many as fit; metrics that diagnostics add are in the
    logs only. On a terminal the best epoch so far is coloured too, unless ``NO_COLOR`` is set.

    Args:
        metrics: further metrics for the table, as ``LOADER/METRIC``.
        monitor: by which the best epoch is marked; it is in the table too. None: no epoch is marked.
        refresh_s: seconds between two refreshes of the bar.
        show_bar: whether to draw the bar; by default if stderr is a terminal, and in a notebook.
        clock: returns seconds.
    """

    def __init__(
        self,
        *,
        metrics: Collection[str] = (),
        monitor: Monitor | None = None,
        refresh_s: float = 0.25,
        show_bar: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(order=PROGRESS)
        compared = [] if monitor is None else [monitor.name]
        self.metrics = list(dict.fromkeys([*compared, *metrics]))
        self.monitor = monitor
        self.refresh_s = refresh_s
        self.show_bar = sys.stderr.isatty() or in_notebook() if show_bar is None else show_bar
        self.clock = clock
        self.bar_: Any = None
        self.loss_: HostCopy | None = None
        self.of_batches_: dict[str, frozenset[str]] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.table_ = EpochTable(runner.num_epochs, self.monitor.name if self.monitor else None, self.metrics)
        self.notebook_ = NotebookTable() if in_notebook() else None

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.epoch_began_ = self.clock()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.pending_steps_ = 0
        self.loss_ = None
        self.refreshed_ = self.clock()
        if self.show_bar and runner.engine.is_main_process:
            name = f"epoch {runner.epoch_step}/{runner.num_epochs} {runner.loader_key}"
            self.bar_ = make_bar(
                desc=name, total=runner.loader_batch_len, leave=False, dynamic_ncols=True, unit="batch"
            )

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if self.bar_ is None:
            return
        self.pending_steps_ += 1
        if self.clock() - self.refreshed_ < self.refresh_s:  # by time, as drawing takes longer than a fast step
            return
        if self.loss_ is not None and self.loss_.ready():
            self.bar_.set_postfix(loss=f"{self.loss_.read().tolist():.4g}", refresh=False)
        # Read at the next refresh, when the copy has arrived: no step waits for the device.
        loss = runner.batch_metrics.get("loss")
        self.loss_ = HostCopy(loss.reshape(())) if isinstance(loss, Tensor) else None
        self.bar_.update(self.pending_steps_)
        self.pending_steps_ = 0
        self.refreshed_ = self.clock()

    def on_loader_end(self, runner: dl.IRunner) -> None:
        self._close_bar()
        # The metrics of the last batch: what diagnostics add to the loader's metrics is not among them.
        self.of_batches_[runner.loader_key] = frozenset(runner.batch_metrics)

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if runner.engine.is_main_process:
            seconds = self.clock() - self.epoch_began_
            best = self.monitor is not None and self.monitor.best(runner.history) == runner.epoch_step
            metrics = self.shown(runner.history[runner.epoch_step])
            if self.notebook_ is not None:
                self.notebook_.add(runner.epoch_step, metrics, seconds, best=best)
                return
            form: Any = {"width": terminal_width(sys.stdout), "colour": shows_colour(sys.stdout)}
            print(*self.table_.lines(runner.epoch_step, metrics, seconds, best=best, **form), sep="\n")
            sys.stdout.flush()  # into a file or a pipe Python would hold the line back

    def shown(self, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        """Return the metrics of an epoch that are shown, by loader."""
        return {
            loader: {name: value for name, value in of.items() if self._is_shown(loader, name)}
            for loader, of in metrics.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return which metrics batches have, for a run that is resumed after its last epoch."""
        return {loader: sorted(names) for loader, names in self.of_batches_.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.of_batches_ = {loader: frozenset(names) for loader, names in state.items()}

    def loader_state(self, runner: dl.IRunner) -> None:
        """Return nothing: the position of the bar follows from the loader."""

    def load_loader_state(self, runner: dl.IRunner, state: None) -> None:
        """Move the bar to where the loader continues."""
        if self.bar_ is not None:
            self.bar_.update(runner.loader_rounds)

    def _is_shown(self, loader: str, name: str) -> bool:
        of_batches = self.of_batches_.get(loader)
        return of_batches is None or name in of_batches or f"{loader}/{name}" in self.metrics

    def on_exception(self, runner: dl.IRunner) -> None:
        self._close_bar()

    def _close_bar(self) -> None:
        if self.bar_ is not None:
            self.bar_.close()
            self.bar_ = None
