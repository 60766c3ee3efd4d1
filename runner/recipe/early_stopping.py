"""End a run after some epochs in which the monitored metric has not improved."""

from catalyst import dl

from assay.callbacks.base.order import DIAGNOSTICS
from assay.callbacks.errors import UsageError

from .monitor import Monitor


class EarlyStopping(dl.Callback):
    """Ends the run after ``patience`` epochs without a better value.

    Args:
        monitor: the metric.
        patience: epochs, at least 1.

    Raises:
        UsageError: ``patience`` is out of range; at the end of the first epoch, the metric does not exist.
    """

    def __init__(self, monitor: Monitor, patience: int):
        super().__init__(order=DIAGNOSTICS)
        if patience < 1:
            raise UsageError(f"patience must be at least 1, got {patience}.")
        self.monitor = monitor
        self.patience = patience

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self._decide(runner)  # a run that had ended this way ends again when it is resumed

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        self._decide(runner)

    def _decide(self, runner: dl.IRunner) -> None:
        # From the history alone, which is the same on every rank and in checkpoints: no state, and no message.
        best = self.monitor.best(runner.history) or 0
        measured = [epoch for epoch, metrics in runner.history.items() if self.monitor.loader in metrics]
        if sum(epoch > best for epoch in measured) >= self.patience:
            runner.need_early_stop = True
