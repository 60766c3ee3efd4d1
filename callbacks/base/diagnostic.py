"""Diagnostic: the base of all callbacks that write to TensorBoard, and when they are called."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from catalyst import dl

from ..drawings.canvas.picture_style import PictureStyle
from ..measures.overhead_budget import FIXED
from ..support.checkpoint_values import from_plain, to_plain
from ..tensorboard.find_writer import find_writer, writes_nothing
from ..tensorboard.writer import Writer
from .meter import Meter, MeteredWriter
from .naming import Named
from .order import DIAGNOSTICS


class Diagnostic(Named):
    """Base of the callbacks that write to TensorBoard.

    A subclass fills in ``begin``, ``observe`` and ``report``. Each is called on every rank; on all but the main process
    the writer of ``report`` drops everything. A run that fails keeps what was drawn before.

    A checkpoint within an epoch holds the attributes that ``observed`` names: those that ``begin`` makes and
    ``observe`` adds to, made of tensors, plain values and objects of classes that are ``stored_as`` something (see
    ``support.checkpoint_values``). ``settle`` is called before, to read what waits to be read.

    An ``OverheadBudget`` in the run measures the time of these three methods, and of any other work within ``timed``.
    It may leave out the pictures of an epoch: those written by the writer's ``image``, and those that are only drawn if
    ``draws`` is true.

    Args:
        order: when the callback runs within an event; by default after those that compute metrics.
        prefix: prefix of its tags and metrics, see ``Named``.
    """

    observed: ClassVar[tuple[str, ...]] = ("measure_",)
    event_files: ClassVar[bool] = False  # whether it writes what only TensorBoard can show
    works_unwritten: ClassVar[bool] = False  # whether it has work to do in evaluate_loader, which takes no logger
    style: PictureStyle | None = None  # how it shows samples; None: it shows none, or a function of the user's does
    counts_as_overhead: ClassVar[bool] = True  # whether an OverheadBudget measures its time, and may thin it
    is_mute_ = False
    meter_: Meter | None = None  # set by a budget for the time of the run

    def __init__(self, order: int = DIAGNOSTICS, prefix: str = ""):
        super().__init__(order, prefix)
        self.writers_: dict[str, Writer] = {}

    def begin(self, runner: dl.IRunner) -> None:
        """Make a fresh measure for the loader ``runner.loader_key``."""
        raise NotImplementedError

    def observe(self, runner: dl.IRunner) -> None:
        """Hand the tensors of ``runner.batch`` and ``runner.batch_metrics`` to the measure, without reading them."""
        raise NotImplementedError

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Reduce the measure over ranks and write it at step ``runner.epoch_step``."""
        raise NotImplementedError

    def settle(self, runner: dl.IRunner) -> None:
        """Read what the last step left to be read one step later; called before a checkpoint within an epoch."""

    def release(self, runner: dl.IRunner) -> None:
        """Remove what was attached to the run, such as hooks; called when it ends, also after an error."""

    @property
    def draws(self) -> bool:
        """Whether to draw the pictures of this epoch; the same on every rank."""
        return self.meter_ is None or self.meter_.draws

    def timed(self, kind: str = FIXED, every: int = 1) -> AbstractContextManager[None]:
        """Return a context whose time an ``OverheadBudget`` counts; see ``measures.overhead_budget.Label``."""
        return nullcontext() if self.meter_ is None else self.meter_.time(kind, every)

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was observed of the loader so far, in types that ``weights_only=True`` loads."""
        self.settle(runner)
        return to_plain({name: getattr(self, name) for name in self.observed})

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Continue, after ``begin``, from what ``loader_state`` returned."""
        for name, part in state.items():
            setattr(self, name, from_plain(part, getattr(self, name)))

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        # All loaders at once: a logger that is missing ends the run before its first step.
        self.writers_ = {}
        self.is_mute_ = not self.works_unwritten and writes_nothing(runner)
        for loader_key in runner.loaders:
            writer = find_writer(runner, loader_key, asked_by=type(self).__name__, event_files=self.event_files)
            self.writers_[loader_key] = (
                writer if self.meter_ is None else MeteredWriter(writer, loader_key, self.meter_)
            )

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        if not self.is_mute_:
            with self.timed():
                self.begin(runner)

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if not self.is_mute_:
            with self.timed():
                self.observe(runner)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if not self.is_mute_:
            with self.timed():
                self.report(runner, self.writers_[runner.loader_key])

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        for writer in self.writers_.values():
            writer.end_epoch()

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self.release(runner)
        for writer in self.writers_.values():
            writer.drain()

    def on_exception(self, runner: dl.IRunner) -> None:
        """Write what was drawn before the error of the run."""
        # The run's own error is being raised: what fails here must not take its place, and is added to it as a note.
        self.release(runner)
        for writer in self.writers_.values():
            try:
                writer.drain()
            except Exception as error:
                # The writer may have raised the run's own error, and raises it again here.
                if error is not runner.exception:
                    runner.exception.add_note(f"{type(self).__name__} could not write its last pictures: {error!r}")
