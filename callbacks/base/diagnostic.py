"""Diagnostic: the base of all callbacks that write to TensorBoard, and the events that they are called at."""

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

    A subclass fills in ``begin``, ``observe`` and ``report``; each is called on every rank, and the writer that
    ``report`` is given drops what does not belong to this rank. A run that fails keeps what was drawn until then.

    A checkpoint within an epoch keeps the attributes that ``observed`` names: what ``begin`` makes and ``observe`` adds
    to, of tensors, plain values and objects of ``assay.callbacks``. What waits to be read is read by ``settle`` before.

    An ``OverheadBudget`` in the run takes the time of these three, and of what else stands in ``timed``. It may leave
    out an epoch's pictures: those that go to the writer by its ``image``, and what asks ``draws`` before it draws.

    Args:
        order: when the callback runs within an event; by default after those that compute metrics.
        prefix: of its tags and metrics, see ``Named``.
    """

    observed: ClassVar[tuple[str, ...]] = ("measure_",)
    event_files: ClassVar[bool] = False  # whether it writes what TensorBoard alone can show
    works_unwritten: ClassVar[bool] = False  # whether it has something to do in evaluate_loader, which takes no logger
    style: PictureStyle | None = None  # how it shows samples; None: it shows none, or a function of the user's does
    counts_as_overhead: ClassVar[bool] = True  # whether an OverheadBudget takes its time, and may thin it
    is_mute_ = False
    meter_: Meter | None = None  # of a budget, as long as the run goes on

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
        """Read what the last step left to be read one step later."""

    def release(self, runner: dl.IRunner) -> None:
        """Take back what was attached to the run, such as hooks; called when it ends, also by an error."""

    @property
    def draws(self) -> bool:
        """Whether pictures of this epoch are to be drawn; the same on every rank."""
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
        """Flush what was drawn. The run's own error is on its way: what fails here is only added to it as a note."""
        self.release(runner)
        for writer in self.writers_.values():
            try:
                writer.drain()
            except Exception as error:
                if error is not runner.exception:
                    runner.exception.add_note(f"{type(self).__name__} could not write its last pictures: {error!r}")
