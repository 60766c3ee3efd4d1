"""Progress of a run: a bar in a terminal, and one line per epoch everywhere."""

import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from catalyst import dl
from torch import Tensor
from tqdm import tqdm

from assay.callbacks.base.order import PROGRESS
from assay.callbacks.support.host_copy import HostCopy


class Progress(dl.Callback):
    """Shows a bar with epoch, loader, remaining time and loss, and prints one line at the end of each epoch.

    The bar is drawn only where stderr is a terminal. The line holds the metrics that every batch has, and those in
    ``metrics``; metrics that diagnostics add are in the logs only.

    Args:
        metrics: further metrics for the line, as ``LOADER/METRIC``.
        refresh_s: seconds between two refreshes of the bar.
        show_bar: whether to draw the bar; by default if stderr is a terminal.
        clock: returns seconds.
    """

    def __init__(
        self,
        *,
        metrics: Collection[str] = (),
        refresh_s: float = 0.25,
        show_bar: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__(order=PROGRESS)
        self.metrics = frozenset(metrics)
        self.refresh_s = refresh_s
        self.show_bar = sys.stderr.isatty() if show_bar is None else show_bar
        self.clock = clock
        self.bar_: tqdm[Any] | None = None
        self.loss_: HostCopy | None = None
        self.of_batches_: dict[str, frozenset[str]] = {}

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.epoch_began_ = self.clock()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.pending_steps_ = 0
        self.loss_ = None
        self.refreshed_ = self.clock()
        if self.show_bar and runner.engine.is_main_process:
            name = f"epoch {runner.epoch_step}/{runner.num_epochs} {runner.loader_key}"
            self.bar_ = tqdm(desc=name, total=runner.loader_batch_len, leave=False, dynamic_ncols=True, unit="batch")

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
            metrics = self.shown(runner.history[runner.epoch_step])
            print(epoch_line(runner.epoch_step, runner.num_epochs, metrics, seconds))
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


def epoch_line(epoch: int, epochs: int, metrics: dict[str, dict[str, float]], seconds: float) -> str:
    """Return the line for an epoch: its number, the metrics of every loader, and how long it took.

    Example:
        >>> epoch_line(2, 10, {"train": {"loss": 0.31}, "valid": {"loss": 0.4, "accuracy": 0.87}}, seconds=12.3)
        'epoch  2/10  train loss 0.3100  |  valid loss 0.4000 accuracy 0.8700  |  12.3 s'
    """
    width = int(math.log10(max(1, epochs))) + 1
    parts = [
        f"{loader} " + " ".join(f"{name} {value:.4f}" for name, value in of.items()) for loader, of in metrics.items()
    ]
    return f"epoch {epoch:>{width}}/{epochs}  " + "  |  ".join(parts) + f"  |  {seconds:.1f} s"
