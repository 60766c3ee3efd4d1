"""Curves: all metrics of the run so far on one sheet."""

from functools import partial

from catalyst import dl

from ..base.diagnostic import Diagnostic
from ..base.epoch_history import History, metrics_of_loaders, past_history
from ..drawings.curves import draw_curves
from ..support.runner_view import loaders_of
from ..tensorboard.writer import Writer


class Curves(Diagnostic):
    """Shows the metrics of all loaders by epoch on one sheet, which can be shared as a picture.

    ================================= ======= ==============================================================
    tag, in the first loader's folder kind    step and content
    ================================= ======= ==============================================================
    ``3_metrics/curves``              image   epoch; one panel per metric, one line per loader, [H, W, 3]
                                              uint8 RGB
    ================================= ======= ==============================================================

    A run that is resumed by ``DictRunner`` also shows the epochs before.

    Args:
        prefix: added in front of the tag, as ``TAG/PREFIX``.

    Raises:
        UsageError: at the start of the run, when the runner has no TensorBoard logger.
    """

    one_a_run = True
    observed = ()  # its values are those of finished loaders

    def __init__(self, prefix: str = ""):
        super().__init__(prefix=prefix)
        self.history_: History = {}
        self.loader_ = ""

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.history_ = past_history(runner)
        self.loader_ = loaders_of(runner)[0]

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return ("3_metrics/curves",) if loader_key == self.loader_ else ()

    def begin(self, runner: dl.IRunner) -> None:
        """Do nothing: metrics are read at the end of the epoch."""

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Do nothing."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if self.is_mute_:
            return
        with self.timed():
            self.history_[runner.epoch_step] = metrics_of_loaders(runner.epoch_metrics)
            # A copy: the next epoch may end before the thread draws.
            draw = partial(draw_curves, dict(self.history_))
            self.writers_[self.loader_].image(self.full_tag("3_metrics/curves"), draw, runner.epoch_step)
        super().on_epoch_end(runner)
