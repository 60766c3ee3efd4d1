"""Reconcile Catalyst's own callbacks with a runner that computes losses, steps and saves by itself.

A callback that repeats what the runner does is removed, or only keeps its logging. A callback that requests another
loss, another accumulation or a step of its own is rejected before the first step, with a message that names the
argument of ``DictRunner`` to use instead. Schedulers are left to the callbacks that step them.
"""

from ..parts.run_view import RunView
from .loaders import check_loaders
from .losses import without_losses
from .mends import mend_callbacks
from .schedulers import Schedules
from .steps import Clipping, without_steps

__all__ = ["StockCallbacks"]


class StockCallbacks:
    """What the stock callbacks of a run leave to the runner, and the runner to them.

    Args:
        runner: set up except for its callbacks, which are checked, and removed if the runner does their work.

    Raises:
        UsageError: a callback requests what the runner does differently; the message says what to pass to the runner.
    """

    def __init__(self, runner: RunView):
        # Schedules and Clipping read the callbacks that without_steps removes.
        check_loaders(runner)
        self.schedules = Schedules(runner)
        self.clipping = Clipping(runner)
        without_steps(runner)
        without_losses(runner)
        # Last, as only callbacks that stay are mended.
        mend_callbacks(runner)
