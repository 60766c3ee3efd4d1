"""What of a batch are classes: the output that tells them, the target, and what both mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from catalyst import dl
from torch import Tensor

from ....measures.targets import decide_targets, has_shares, inside_classes, is_paired
from ....metrics.batch_metrics import predicted_classes
from ....support.runner_view import supervised_keys
from ..settings.criteria import observe_criterion
from ..settings.metrics import observe_metrics
from ..settings.terms import observe_terms

MOST_CLASSES = 1000
_OVER_CLASSES = ("cross_entropy", "nll", "margin")
_OVER_LABELS = ("bce", "bce_logits")
_OF_REGIONS = ("focal", "dice", "jaccard", "lovasz", "tversky")  # of classes, or of labels
# Pixels of a batch that are counted, evenly spread: more of them tell nothing new.
_MOST_PIXELS = 1 << 16


@dataclass(frozen=True)
class ClassBatch:
    """Outputs and targets of a batch, of a task with classes.

    Attributes:
        output: [N, C, ...], or of ``binary`` [N, ...]; of masks, some rows and columns.
        target: class numbers or labels, int64, as ``decide_targets`` returns them.
        predicted: likewise.
        task: ``multiclass``, ``binary`` or ``multilabel``.
        kind: of the criterion, which tells probabilities from logits.
        ignore_index: a target that does not count.
    """

    output: Tensor
    target: Tensor
    predicted: Tensor
    task: str
    kind: str
    ignore_index: int | None

    @property
    def classes(self) -> int:
        """Number of classes, or of labels."""
        return 2 if self.task == "binary" else self.output.shape[1]

    def counts(self) -> Tensor:
        """Return how often each class is the target, and is predicted, [2, C] int64; of labels, how often they are 1.

        The device is not read.
        """
        return torch.stack([self._count(self.target, self.target), self._count(self.predicted, self.target)])

    def _count(self, values: Tensor, target: Tensor) -> Tensor:
        high = self.classes if self.task == "multiclass" else 2
        _, counts, _ = inside_classes(target, high, self.ignore_index)
        if self.task == "multilabel":
            yes = ((values == 1) & counts).to(torch.int64)
            return yes.sum(dim=[axis for axis in range(yes.ndim) if axis != 1])
        found, inside, _ = inside_classes(values, high, self.ignore_index)
        totals = torch.zeros(self.classes, dtype=torch.int64, device=values.device)
        return totals.scatter_add_(0, found.reshape(-1), (inside & counts).to(torch.int64).reshape(-1))


@dataclass(frozen=True)
class _Source:
    output: str
    target: str
    kind: str
    task: str | None
    ignore_index: int | None


class ClassView:
    """Finds the output and the target of a run that are classes, by the terms of its loss and by its metrics.

    Args:
        runner: at the start of the run, or later.
    """

    def __init__(self, runner: dl.IRunner):
        metrics = [one for one in observe_metrics(runner) if one.output_key and one.target_key]
        told = {(one.output_key, one.target_key): one for one in metrics if one.task}
        found = [(term.output, term.target, term.criterion) for term in observe_terms(runner)]
        output, target, _ = supervised_keys(runner)
        if not found and output and target:
            found = [(output, target, observe_criterion(runner.criterion))]
        self._sources = [
            _Source(output, target, criterion.kind, getattr(told.get((output, target)), "task", None),
                    criterion.ignore_index)
            for output, target, criterion in found
        ]  # fmt: skip
        known = {(one.output, one.target) for one in self._sources}
        self._sources += [
            _Source(str(output), str(target), "", one.task, one.ignore_index)
            for (output, target), one in told.items()
            if (output, target) not in known
        ]

    @torch.no_grad()
    def take(self, runner: dl.IRunner) -> ClassBatch | None:
        """Return the classes of the current batch; None where it has none, or too many."""
        if not isinstance(runner.batch, Mapping):
            return None
        for source in self._sources:
            output, target = runner.batch.get(source.output), runner.batch.get(source.target)
            if isinstance(output, Tensor) and isinstance(target, Tensor) and output.numel() and target.numel():
                task = _task(source, output, target)
                if task is not None:
                    return _class_batch(source, task, output.detach(), target.detach())
        return None


def _task(source: _Source, output: Tensor, target: Tensor) -> str | None:
    """Return the task of an output and its target; None where these are no classes for certain."""
    if not output.is_floating_point() or not output.ndim or len(output) != len(target):
        return None
    classes = output.shape[1] if output.ndim > 1 else 1
    several = 1 < classes <= MOST_CLASSES
    if source.kind in _OVER_CLASSES or source.task == "multiclass":
        return "multiclass" if several and is_paired(target.shape, output.shape, "multiclass") else None
    of_labels = source.kind in _OVER_LABELS or source.task in ("binary", "multilabel")
    if not of_labels and source.kind not in _OF_REGIONS:
        return None
    if is_paired(target.shape, output.shape, "binary") and classes == 1:
        return "binary"
    if several and target.shape == output.shape:
        return "multilabel"
    of_classes = several and not target.is_floating_point() and not has_shares(target.shape, output.shape)
    return "multiclass" if of_classes and is_paired(target.shape, output.shape, "multiclass") else None


def _class_batch(source: _Source, task: str, output: Tensor, target: Tensor) -> ClassBatch:
    if task == "binary":
        target = target.reshape(output.shape)
    shares = task != "multiclass" or has_shares(target.shape, output.shape)
    output, target = _thinned(output, 2), _thinned(target, 2 if shares and output.ndim > 1 else 1)
    decided = decide_targets(target, output.shape, task, source.ignore_index)
    # Where the loss takes probabilities, a half is what tells yes from no.
    shifted = output - 0.5 if source.kind == "bce" else output
    return ClassBatch(output, decided, predicted_classes(shifted, task), task, source.kind, source.ignore_index)


def _thinned(values: Tensor, first: int) -> Tensor:
    """Leave out rows and columns of what has many pixels, alike for outputs and targets.

    Args:
        values: [N, ...].
        first: the first axis of pixels.
    """
    axes = values.ndim - first
    pixels = len(values) * math.prod(values.shape[first:])
    if axes < 1 or pixels <= _MOST_PIXELS:
        return values
    every = math.ceil((pixels / _MOST_PIXELS) ** (1 / axes))
    return values[(slice(None),) * first + (slice(None, None, every),) * axes]
