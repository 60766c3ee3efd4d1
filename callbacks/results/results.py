"""Results: pictures, curves and worst samples of a run as files that open without TensorBoard."""

import math
import os
from functools import partial
from pathlib import Path

from catalyst import dl

from ..base.diagnostic import Diagnostic
from ..base.epoch_history import History, metrics_of_loaders, past_history
from ..base.order import RESULTS
from ..drawings.curves import draw_curves
from ..errors import UsageError
from ..keys import pick
from ..samples.best_worst_samples import BestWorstSamples
from ..support.atomic_files import save_whole
from ..support.runner_view import callbacks_of, folder_in_run
from ..support.unwrap import inside
from ..tensorboard.summaries import encode_png
from ..tensorboard.writer import Writer
from .result_files import WORST, Arrivals, PictureNames, ResultFiles
from .worst_table import worst_samples, write_worst


class Results(Diagnostic):
    """Saves the pictures that other callbacks draw, of the last and of the best epoch, and curves and worst samples.

    ==================================== ========================================================================
    file                                 content
    ==================================== ========================================================================
    last/LOADER/NAME.png                 each picture as of the last epoch: ``6_samples/best/loss`` is
                                         ``samples_best_loss.png``
    best/LOADER/NAME.png                 each picture as of the best epoch by ``metric``
    curves.png                           the metrics of all loaders by epoch
    worst.csv                            the worst samples of each loader by ``BestWorstSamples``, of the best
                                         epoch, or else of the last one: loader, epoch, score, rank, sample_id,
                                         value, target, prediction
    ==================================== ========================================================================

    A picture that an epoch did not draw stays what it was; its title names its epoch. Of an epoch that ends by an error
    ``last`` shows what it has drawn. Every file is written whole or
    not at all, by the threads that draw. A run that is resumed by ``DictRunner`` ends with the files of a run that was
    never interrupted; one that goes back to an old checkpoint has no ``best`` until an epoch is better, if the pictures
    of the best epoch until then are gone.

    Args:
        metric: of ``runner.epoch_metrics``, as ``LOADER/METRIC``, by which the best epoch is chosen; None: there is no
            folder ``best``.
        minimize: whether a smaller value is better. A value that is NaN or infinite is never the best; among equal
            values the first wins.
        folder: where to write, reserved for this callback. None: ``results`` in the run's ``logdir``.

    Raises:
        UsageError: ``metric`` is no ``LOADER/METRIC``; at the start of the run, there is no folder, no logger to draw
            for, or a second callback of this kind; at the end of the first epoch, a metric is missing.
        OSError: a file, which the error names, cannot be written.
    """

    one_a_run = True
    observed = ()  # its files are those of finished loaders
    counts_as_overhead = False

    def __init__(
        self,
        metric: str | None = "valid/loss",
        minimize: bool = True,
        folder: str | os.PathLike[str] | None = None,
    ):
        super().__init__(order=RESULTS)
        if metric is not None and not all(metric.partition("/")[::2]):
            raise UsageError(f"metric must read LOADER/METRIC, like 'valid/loss', got {metric!r}.")
        self.metric, self.minimize = metric, minimize
        self.folder = None if folder is None else Path(folder)
        self.history_: History = {}
        self.folder_ = self.folder
        self.keepers_: dict[str, _Keeper] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        if sum(isinstance(inside(one), Results) for one in callbacks_of(runner)) > 1:
            raise UsageError("Results is about the whole run, so give it one Results.")
        super().on_experiment_start(runner)
        if self.is_mute_:
            return
        if self.metric is not None:
            loader = self.metric.partition("/")[0]
            pick(runner.loaders, loader, f"Results(metric={self.metric!r})", source_name="run's loaders")
        self.folder_ = folder_in_run(runner, self.folder, "results", type(self).__name__)
        self.files_ = ResultFiles(self.folder_)
        self.history_ = past_history(runner)
        # An epoch may have begun before the checkpoint that the run goes on from.
        begun = runner.epoch_step + int(runner.epoch_step > 0 or runner.batch_step > 0)
        writers = list(self.writers_.values())
        writers[0].call(partial(self.files_.restore, runner.epoch_step, self.best, begun=begun))
        writers[0].drain()  # before the thread of another loader saves a picture
        self.keepers_ = {loader: _Keeper(self.files_, loader) for loader in self.writers_}
        for loader, writer in self.writers_.items():
            writer.keep_pictures(self.keepers_[loader].keep)

    def begin(self, runner: dl.IRunner) -> None:
        """Prepare for the pictures of a loader."""
        loader = runner.loader_key
        self.writers_[loader].call(partial(self.files_.begin_loader, runner.epoch_step, loader))

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        loader, epoch = runner.loader_key, runner.epoch_step
        callbacks = [one for one in map(inside, callbacks_of(runner)) if isinstance(one, BestWorstSamples)]
        found = [worst for one in callbacks if (worst := worst_samples(runner, one)) is not None]
        if found:
            writer.call(lambda: write_worst(self.files_.path(epoch, loader, WORST), loader, epoch, found))

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        if not self.is_mute_:
            for loader, writer in self.writers_.items():
                # By the queue, so that pictures that wait still count for the epoch before.
                writer.call(partial(self.keepers_[loader].begin, runner.epoch_step))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if self.is_mute_:
            return
        self.history_[runner.epoch_step] = metrics_of_loaders(runner.epoch_metrics)
        if self.metric is not None:
            loader, _, metric = self.metric.partition("/")
            # A loader may be left out of some epochs.
            if loader in runner.epoch_metrics:
                known = runner.epoch_metrics[loader]
                pick(known, metric, f"Results(metric={self.metric!r})", f"metrics of loader {loader!r}")
        finish = partial(self._finish, runner.epoch_step, self.best, dict(self.history_))
        finished = Arrivals(len(self.writers_), finish)
        for writer in self.writers_.values():
            writer.call(finished.arrive)
        super().on_epoch_end(runner)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        super().on_experiment_end(runner)
        self._release_writers()

    def on_exception(self, runner: dl.IRunner) -> None:
        super().on_exception(runner)  # waits for the pictures
        self._release_writers()
        if not self.keepers_:
            return
        try:
            self.files_.break_off(runner.epoch_step)
        except OSError as error:
            # The run's own error is being raised, and must not give way to this one.
            runner.exception.add_note(f"Results could not show the pictures of the last epoch: {error!r}")

    def _release_writers(self) -> None:
        # A logger of the user's may be used for another run.
        for writer in self.writers_.values():
            writer.keep_pictures(None)

    @property
    def best(self) -> int | None:
        """The best epoch so far; None while no value is finite."""
        loader, _, metric = (self.metric or "").partition("/")
        values = {epoch: metrics.get(loader, {}).get(metric, math.nan) for epoch, metrics in self.history_.items()}
        finite = [epoch for epoch in sorted(values) if math.isfinite(values[epoch])]
        return min(finite, key=lambda epoch: values[epoch] if self.minimize else -values[epoch], default=None)

    def _finish(self, epoch: int, best: int | None, history: History) -> None:
        self.files_.finish(epoch, best)
        self.files_.save_curves(encode_png(draw_curves(history, best=best, best_by=self.metric)))


class _Keeper:
    """Saves the pictures of a loader, in the thread of its writer."""

    def __init__(self, files: ResultFiles, loader: str):
        self.files, self.loader = files, loader
        self.names = PictureNames()
        self.epoch = 1

    def begin(self, epoch: int) -> None:
        self.epoch = epoch

    def keep(self, tag: str, png: bytes) -> None:
        save_whole(self.files.path(self.epoch, self.loader, self.names.name(tag)), lambda file: file.write(png))
