"""Catalyst's own callbacks beside a runner that goes backward, clips, steps and saves by itself.

One that asks for what the runner does anyway is taken out, or keeps what it logs. One that asks for another loss,
another accumulation or a step of its own is refused before the first step, with the argument of ``DictRunner`` that
does what it asks for. Schedulers are left to the callbacks that step them.
"""

from typing import TYPE_CHECKING

from .loaders import check_loaders
from .losses import without_losses
from .mends import mend_callbacks
from .schedulers import Schedules
from .steps import Clipping, without_steps

if TYPE_CHECKING:
    from ..dict_runner import DictRunner

__all__ = ["StockCallbacks"]


class StockCallbacks:
    """What the callbacks of a run, as ``runner.callbacks`` holds them, leave to the runner, and it to them.

    Args:
        runner: set up but for its callbacks, which are checked and, where the runner does what they ask for, taken out.

    Raises:
        UsageError: a callback asks for what the runner does otherwise; it says what to give the runner instead.
    """

    def __init__(self, runner: "DictRunner"):
        check_loaders(runner)
        self.schedules = Schedules(runner)
        self.clipping = Clipping(runner)
        without_steps(runner)
        without_losses(runner)
        mend_callbacks(runner)
