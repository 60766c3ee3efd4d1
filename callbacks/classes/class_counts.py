"""The base of the diagnostics that count true and predicted classes over a loader."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from catalyst import dl
from torch import Tensor

from ..base.class_shapes import check_shapes
from ..base.class_targets import ClassTargets
from ..base.diagnostic import Diagnostic
from ..base.dict_batch import pick_tensor
from ..base.shared_counts import first_alike, key_of_methods
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.confusion_matrix import ConfusionMatrix
from ..measures.measure import Measure, reduce_measure
from ..measures.targets import decide_targets
from ..metrics.batch_metrics import TASKS, predicted_classes
from ..support.class_names import check_names
from ..support.distributed import world_size
from ..tensorboard.writer import Writer

_SMALL = 1 << 12  # values of an output: to count less takes dozens of operations as well
_MANY_BYTES = 2**26
_TOGETHER = 8  # so many small batches are counted as one


class ClassCounts(Diagnostic):
    """Base of the diagnostics that are drawn from counts over classes; a subclass fills in ``write``.

    Loaders for inference are left out. Nothing is read from the device within a step. Several of these in one run
    that count the same count it once.

    Args:
        task: ``multiclass`` (output [N, C, ...], the largest wins, so a pixel counts as a sample), ``binary`` (output
            [N, ...] or [N, 1, ...], positive means class 1) or ``multilabel`` (output [N, C, ...], positive means yes).
        num_classes: C; ``class_names`` may stand in for it. Not needed for ``binary``.
        class_names: one a class or label; without, they are shown by number.
        ignore_index: target value that is left out.
        output_key: of the batch; logits.
        target_key: of the batch; class numbers [N, ...], or 0 and 1 in the output's shape.
        prefix: stands before the tags and metrics, ``PREFIX/NAME``, for a second callback of this kind in the run.

    Raises:
        UsageError: an argument is out of range; at a batch, when a key is missing, a shape does not fit, or a target
            on the host is no class; at the end of a loader, when any other was none.
    """

    def __init__(
        self,
        *,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if task not in TASKS:
            raise unknown_name("task", task, TASKS)
        if ignore_index is not None and not _is_integer(ignore_index):
            raise UsageError(f"ignore_index must be an integer or None, got {ignore_index!r}.")
        self.task = task
        self.num_classes = _count_classes(task, num_classes, class_names)
        self.class_names = check_names(class_names) or [str(number) for number in range(self.num_classes)]
        self.ignore_index = ignore_index
        self.output_key = output_key
        self.target_key = target_key
        self.source_: ClassCounts = self
        self.measure_: Any = None
        self.counts_: Tensor | None = None
        self.waiting_: list[tuple[Tensor, ...]] = []  # small batches, which are counted together
        self.warned_: set[tuple[str, str]] = set()

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        """Show the counts of the loader over all ranks, int64 on the host."""
        raise NotImplementedError

    def make_measure(self, device: torch.device) -> Measure:
        """Return a measure whose state holds ``outside`` and ``counts``, here [1, C, C] or, of labels, [C, 2, 2]."""
        groups, classes = (self.num_classes, 2) if self.task == "multilabel" else (1, self.num_classes)
        return ConfusionMatrix(groups, classes, self.ignore_index, device=device)

    def take(self, runner: dl.IRunner) -> tuple[Tensor, ...]:
        """Return what counts of a batch: output, target, and what else ``count`` needs, of [N, ...] each."""
        output = pick_tensor(runner, self.output_key, type(self).__name__).detach()
        target = pick_tensor(runner, self.target_key, type(self).__name__).detach()
        keys = self.output_key, self.target_key
        check_shapes(type(self).__name__, self.task, self.num_classes, (keys[0], output.shape), (keys[1], target.shape))
        self.targets.check(runner, output.shape)
        return output, target

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        """Hand to the measure what ``take`` returned of a batch, or of several that follow one another as of one."""
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        self.measure_.update(predicted_classes(output, self.task), target, *others)

    def check(self, runner: dl.IRunner, writer: Writer, state: Mapping[str, Tensor]) -> None:
        """Raise or say what is wrong with the state of a loader, over all ranks."""
        if outside := int(state["outside"]):
            raise self.targets.error(runner.loader_key, outside)
        if "nan" in state and (nan := state["nan"].cpu()).any():
            self.warn_once(runner, writer, "nan", f"{int(nan.sum())} scores are NaN and left out{self.name_nan(nan)}.")

    def name_nan(self, nan: Tensor) -> str:
        """Return what a warning adds on counts of NaN in the measure's state."""
        return ""

    def warn_once(self, runner: dl.IRunner, writer: Writer, kind: str, text: str) -> None:
        """Log a warning, the first of its kind in this loader and run."""
        if (runner.loader_key, kind) not in self.warned_:
            self.warned_.add((runner.loader_key, kind))
            writer.warn(f"{type(self).__name__}, {self.place(runner.loader_key)} epoch {runner.epoch_step}: {text}")

    @property
    def targets(self) -> ClassTargets:
        """Which targets are taken."""
        return ClassTargets(type(self).__name__, self.task, self.num_classes, self.ignore_index, self.target_key)

    @property
    @final
    def count_key(self) -> tuple[Any, ...]:
        """What decides the counts; of a subclass that counts by itself, without its help."""
        return key_of_methods(self, ("make_measure", "take", "count"))

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.warned_ = set()
        self.source_ = first_alike(runner, self, ClassCounts)

    def begin(self, runner: dl.IRunner) -> None:
        self.measure_, self.counts_, self.waiting_ = None, None, []
        if self.source_ is self and not runner.is_infer_loader:
            self.measure_ = self.make_measure(runner.engine.device)

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        parts = self.take(runner)
        if parts[0].numel() > _SMALL or not all(part.ndim for part in parts):
            self.count(*parts)
            return
        if self.waiting_ and not _can_join(self.waiting_[-1], parts):
            self.settle(runner)
        # Copies, as a compiled model may write its next output over this one.
        self.waiting_.append(tuple(part.clone() for part in parts))
        if len(self.waiting_) == _TOGETHER:
            self.settle(runner)

    def settle(self, runner: dl.IRunner) -> None:
        if self.waiting_:
            parts, self.waiting_ = zip(*self.waiting_, strict=True), []
            self.count(*map(torch.cat, parts))

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is not None:
            self.settle(runner)
            if world_size() > 1 and hasattr(self.measure_, "widen"):
                self.measure_.widen()  # of one type on all ranks, which the sum fits into
            state = reduce_measure(self.measure_)
            self.measure_ = None
            self.check(runner, writer, state)
            self.counts_ = state["counts"].cpu()
        if self.source_.counts_ is not None:
            self.write(runner, writer, self.source_.counts_)
            if self.source_.counts_.nbytes > _MANY_BYTES:
                writer.drain()  # the counts of the next loader would come on top of those that wait to be drawn


def _can_join(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Whether a batch and another one can be made one, in all of their parts."""
    return all(a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count_classes(task: str, num_classes: int | None, class_names: Sequence[str] | None) -> int:
    if class_names is not None and num_classes not in (None, len(class_names)):
        raise UsageError(f"num_classes must be that of class_names, {len(class_names)}, got {num_classes}.")
    found = num_classes if class_names is None else len(class_names)
    if found is None and task != "binary":
        raise UsageError(f"num_classes or class_names is needed for the task {task!r}, got None.")
    if task == "binary" and found not in (None, 2):
        raise UsageError(f"num_classes must be 2 for the task 'binary', got {found!r}.")
    least = 1 if task == "multilabel" else 2
    if found is not None and (not _is_integer(found) or found < least):
        raise UsageError(f"num_classes must be an integer of at least {least} for the task {task!r}, got {found!r}.")
    return 2 if found is None else found
