"""The callback of a trial: it reports each epoch to the search, and ends the run where the search says so."""

import signal
from multiprocessing.connection import Connection
from typing import Any

from catalyst import dl

from assay.callbacks.base.order import DIAGNOSTICS

from ...processes.exit_codes import StoppedError
from ...recipe.monitor import Monitor


class ReportToSearch(dl.Callback):
    """Reports the value of each epoch, and is told whether to go on.

    Args:
        monitor: the metric.
        connection: to the process of the search.

    Raises:
        StoppedError: the search's process is no more.
    """

    def __init__(self, monitor: Monitor, connection: "Connection[tuple[int, float], bool]"):
        super().__init__(order=DIAGNOSTICS)
        self.monitor = monitor
        self.connection = connection

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReportToSearch":
        # The validation before the first epoch runs copies of all callbacks. A copy of the connection would close it.
        return ReportToSearch(self.monitor, self.connection)

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        value = self.monitor.of_epoch(runner)
        if value is None:  # an epoch that leaves the loader out
            return
        try:
            # A plain number: a tensor would travel through shared memory, which ends with this process.
            self.connection.send((runner.epoch_step, float(value)))
            is_pruned = self.connection.recv()
        except (EOFError, OSError) as error:
            raise StoppedError("this trial ends, as the process of its search has", signal.SIGTERM) from error
        if is_pruned:
            runner.need_early_stop = True
