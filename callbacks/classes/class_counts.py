"""The base of the diagnostics that count true and predicted classes over a loader."""

from collections.abc import Mapping, Sequence
from inspect import Signature
from typing import Any, ClassVar, final

import torch
from catalyst import dl
from torch import Tensor

from ..base.class_shapes import check_shapes
from ..base.class_targets import ClassTargets
from ..base.diagnostic import Diagnostic
from ..base.dict_batch import pick_tensor
from ..base.option_signature import signature_with_options
from ..base.shared_counts import first_alike, key_of_methods
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.confusion_matrix import ConfusionMatrix
from ..measures.measure import Measure, reduce_measure
from ..measures.targets import decide_targets
from ..metrics.batch_metrics import TASKS, predicted_classes
from ..support.class_names import check_names
from ..support.distributed import world_size
from ..support.runner_view import kept_parts
from ..support.sample_losses import can_join, kept_copy
from ..tensorboard.writer import Writer

# Values of an output, on a CPU and elsewhere. Counting fewer takes the same dozens of operations, which a GPU has to be
# asked for one by one, so small batches are counted together: also 256 samples of 1000 classes.
_SMALL, _SMALL_ON_GPU = 1 << 12, 1 << 18
# How many small batches are counted as one, at most: their copies wait on the device, 32 MiB in float32.
_TOGETHER, _TOGETHER_ON_GPU = 8, 32
# Counts of this size, 64 MiB, must not pile up in the writer's queue.
_MANY_BYTES = 2**26


class ClassCounts(Diagnostic):
    """Base of the diagnostics that show counts of true and predicted classes; a subclass fills in ``write``.

    Inference loaders are skipped. Nothing is read from the device within a step. Callbacks of one run that need the
    same counts share them, see ``count_key``.

    Args:
        task: ``multiclass`` (output [N, C, ...]: the largest logit wins, and every pixel of a mask is a sample),
            ``binary`` (output [N, ...] or [N, 1, ...]: a positive logit means class 1) or ``multilabel`` (output
            [N, C, ...]: a positive logit means yes).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        prefix: added to tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``; a second callback of this kind
            needs one.

    Raises:
        UsageError: an argument is out of range; at a batch, a key is missing, a shape does not fit, or a target on the
            host is no class; at the end of a loader, any other target was no class.
    """

    __signature__: ClassVar[Signature]

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
        if ignore_index is not None and not is_integer(ignore_index):
            raise UsageError(f"ignore_index must be an integer or None, got {ignore_index!r}.")
        self.task = task
        self.num_classes = count_classes(task, num_classes, class_names)
        self.class_names = check_names(class_names) or [str(number) for number in range(self.num_classes)]
        self.ignore_index = ignore_index
        self.output_key = output_key
        self.target_key = target_key
        self.source_: ClassCounts = self  # the callback that counts, for this one too
        self.measure_: Any = None
        self.has_pixels_ = False  # whether what is counted are pixels of masks
        self.counts_: Tensor | None = None
        self.waiting_: list[tuple[Tensor, ...]] = []  # small batches, to be counted together
        self.warned_: set[tuple[str, str]] = set()  # loader and kind of the warnings that were logged

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Show the ``**options`` of a subclass as the arguments that they are, to ``help``, configs and checks."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = signature_with_options(cls)

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        """Write the counts of the loader over all ranks; they are int64 and on the host."""
        raise NotImplementedError

    def make_measure(self, device: torch.device) -> Measure:
        """Return a fresh measure. Its state holds ``outside`` and ``counts``: [1, C, C], or [C, 2, 2] for labels."""
        # Labels do not exclude each other, so each has a matrix of its own, of no and yes.
        groups, classes = (self.num_classes, 2) if self.task == "multilabel" else (1, self.num_classes)
        return ConfusionMatrix(groups, classes, self.ignore_index, device=device)

    def take(self, runner: dl.IRunner) -> tuple[Tensor, ...]:
        """Return the parts of a batch that ``count`` takes: output, target and any others, [N, ...] each."""
        output = pick_tensor(runner, self.output_key, type(self).__name__).detach()
        target = pick_tensor(runner, self.target_key, type(self).__name__).detach()
        keys = self.output_key, self.target_key
        check_shapes(type(self).__name__, self.task, self.num_classes, (keys[0], output.shape), (keys[1], target.shape))
        # Only targets that the loader left on the host; those on the device are counted, and checked at the end.
        self.targets.check(runner, output.shape)
        return output, target

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        """Add to the measure what ``take`` returned for a batch, or for several batches joined into one."""
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        self.measure_.update(predicted_classes(output, self.task), target, *others)

    def check(self, runner: dl.IRunner, writer: Writer, state: Mapping[str, Tensor]) -> None:
        """Raise a ``UsageError`` or log a warning if something is wrong with the state of a loader, over all ranks."""
        if outside := int(state["outside"]):
            raise self.targets.error(runner.loader_key, outside)
        if "nan" in state and (nan := state["nan"].cpu()).any():
            self.warn_once(runner, writer, "nan", f"{int(nan.sum())} scores are NaN and left out{self.name_nan(nan)}.")

    def name_nan(self, nan: Tensor) -> str:
        """Return what the warning of scores that are NaN adds about their counts; a subclass may name the classes."""
        return ""

    def warn_once(self, runner: dl.IRunner, writer: Writer, kind: str, text: str) -> None:
        """Log a warning, unless one of this kind was logged for this loader before in the run."""
        if (runner.loader_key, kind) not in self.warned_:
            self.warned_.add((runner.loader_key, kind))
            writer.warn(f"{type(self).__name__}, {self.place(runner.loader_key)} epoch {runner.epoch_step}: {text}")

    @property
    def unit(self) -> str:
        """What is counted, for texts: ``samples``, or the ``pixels`` of masks."""
        return "pixels" if self.source_.has_pixels_ else "samples"

    @property
    def unit_of_predictions(self) -> str:
        """What has one prediction: ``unit``, or each of the ``decisions`` that a sample or pixel has by labels."""
        return "decisions" if self.task == "multilabel" else self.unit

    @property
    def targets(self) -> ClassTargets:
        """The check of this callback's targets."""
        return ClassTargets(type(self).__name__, self.task, self.num_classes, self.ignore_index, self.target_key)

    @property
    @final
    def count_key(self) -> tuple[Any, ...]:
        """A value that is equal for two callbacks with the same counts."""
        # Made here for all subclasses: one that overrides a method gets another key without doing anything for it.
        return key_of_methods(self, ("make_measure", "take", "count", "begin", "observe", "settle"))

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.warned_ = set()
        self.source_ = first_alike(runner, self, ClassCounts)

    def begin(self, runner: dl.IRunner) -> None:
        self.measure_, self.counts_, self.waiting_ = None, None, []
        # A callback that takes another one's counts has no measure, and adds nothing per step.
        if self.source_ is self and not runner.is_infer_loader:
            self.measure_ = self.make_measure(runner.engine.device)

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        parts = self.take(runner)
        self.has_pixels_ = _has_pixels(parts[0], self.task)
        on_cpu = parts[0].device.type == "cpu"
        # A part without dimensions cannot be concatenated with those of other batches.
        if parts[0].numel() > (_SMALL if on_cpu else _SMALL_ON_GPU) or not all(part.ndim for part in parts):
            self.count(*parts)
            return
        if self.waiting_ and not can_join(self.waiting_[-1], parts):
            self.settle(runner)
        self.waiting_.append(self._copied(runner, parts))
        if len(self.waiting_) == (_TOGETHER if on_cpu else _TOGETHER_ON_GPU):
            self.settle(runner)

    def _copied(self, runner: dl.IRunner, parts: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (kept_copy(runner, parts[0]), *kept_parts(runner, parts[1:]))

    def settle(self, runner: dl.IRunner) -> None:
        if self.waiting_:
            parts, self.waiting_ = zip(*self.waiting_, strict=True), []
            self.count(*map(torch.cat, parts))

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is not None:
            self.settle(runner)
            if world_size() > 1 and hasattr(self.measure_, "widen"):
                # Each rank chooses int32 or int64 by itself; the sum over ranks needs one type, and one that holds it.
                self.measure_.widen()
            state = reduce_measure(self.measure_)
            self.measure_ = None
            # On the state of all ranks, so that they raise together and none waits in the next collective.
            self.check(runner, writer, state)
            self.counts_ = state["counts"].cpu()
        # The source has reported before: it is the first callback of its key, in running order.
        if self.source_.counts_ is not None:
            self.write(runner, writer, self.source_.counts_)
            if self.source_.counts_.nbytes > _MANY_BYTES:
                # Otherwise the next loader's counts would be made while these still wait to be drawn.
                writer.drain()


def _has_pixels(output: Tensor, task: str) -> bool:
    """Whether an output has at least two axes beside those of samples and classes."""
    return output.ndim >= (3 if task == "binary" else 4)


def is_integer(value: object) -> bool:
    """Whether a value is an integer."""
    # bool is a subclass of int, yet True is no number of classes.
    return isinstance(value, int) and not isinstance(value, bool)


def count_classes(task: str, num_classes: int | None, class_names: Sequence[str] | None) -> int:
    """Return the number of classes, or of labels, that two arguments give; for ``binary`` it is 2.

    Raises:
        UsageError: neither argument gives it, they disagree, or it is too small for the task.
    """
    if class_names is not None and num_classes not in (None, len(class_names)):
        raise UsageError(f"num_classes must be that of class_names, {len(class_names)}, got {num_classes}.")
    found = num_classes if class_names is None else len(class_names)
    if found is None and task != "binary":
        raise UsageError(f"num_classes or class_names is needed for the task {task!r}, got None.")
    if task == "binary" and found not in (None, 2):
        raise UsageError(f"num_classes must be 2 for the task 'binary', got {found!r}.")
    # One label alone has a yes and a no; one class alone has nothing to be confused with.
    least = 1 if task == "multilabel" else 2
    if found is not None and (not is_integer(found) or found < least):
        raise UsageError(f"num_classes must be an integer of at least {least} for the task {task!r}, got {found!r}.")
    return 2 if found is None else found
