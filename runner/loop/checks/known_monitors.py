"""Find out early that a monitor names no metric."""

from collections.abc import Sequence

from catalyst import dl

from assay.callbacks.base.order import FIRST

from ...recipe.monitor import Monitor


class KnownMonitors(dl.Callback):
    """Ends a run at the end of its first epoch where a monitor names no metric.

    Args:
        monitors: those of the run.
    """

    def __init__(self, monitors: Sequence[Monitor]):
        # Before a callback has logged or saved anything by the metric.
        super().__init__(order=FIRST)
        self.monitors = list(monitors)

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        for monitor in self.monitors:
            monitor.of_epoch(runner)
