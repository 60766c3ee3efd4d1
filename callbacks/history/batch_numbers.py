"""What one batch tells of its samples, by task."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..errors import UsageError, described
from ..keys import pick
from ..measures.mask_regions import can_have_regions, contradictions, strongest_regions, window_reach
from ..measures.sample_history import is_yes_or_no, label_numbers, region_overlaps, sample_numbers, two_logits
from ..measures.targets import decide_targets, is_paired
from ..metrics.batch_metrics import predicted_classes
from .running import UNKNOWN_LABEL

OF_MAPS = 4  # tensors that are kept of maps
MOST_CLASSES = 200  # with a mean probability each; of more their files would outgrow the data set
_BEST_CLASSES = 10  # of more, these are kept of each sample
_UNCOUNTED = 2.0  # is added to the probability of a label that does not count
_SHAPES = {
    "multiclass": "[N, C] with two classes or more, or [N, C, ...]",
    "binary": "[N] or [N, 1], or of maps [N, H, W] or [N, 1, H, W]",
    "multilabel": "[N, C], or [N, C, ...]",
}


@dataclass(frozen=True)
class BatchNumbers:
    """Numbers of the samples of a batch, on their device.

    Attributes:
        kind: a key of ``measures.sample_history.COLUMNS_OF``.
        numbers: [N, K], float32, its columns, or of maps ``KEPT_OF_MAPS``, without the loss, which is the last one.
        shares: [N, C], float32, probabilities of classes, of labels as ``joined_labels`` returns them, or of maps the
            recall of each class; C may be 0.
        best: [N, C], float32, which classes these are, where there are too many for all of them; else [N, 0].
    """

    kind: str
    numbers: Tensor
    shares: Tensor
    best: Tensor


@dataclass(frozen=True)
class BatchReader:
    """Makes numbers of batches of a task other than detection.

    Args:
        task: ``multiclass``, ``binary`` or ``multilabel``; what has axes behind that of classes is maps.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch.
        ignore_index: target value that does not count.
    """

    task: str
    output_key: str
    target_key: str
    ignore_index: int | None

    @property
    def keys(self) -> tuple[str, str]:
        """Keys of the logits and of the targets."""
        return self.output_key, self.target_key

    def read(self, runner: dl.IRunner, size: int) -> tuple[str, Tensor, Tensor]:
        """Return the kind of the samples of the current batch, their logits and their targets as they are.

        Args:
            runner: whose batch it is.
            size: number of samples of the batch.

        Raises:
            UsageError: a key is missing or a shape does not fit.
        """
        logits, kind = self._logits(runner, size)
        return kind, logits, self._target(runner, logits)

    @torch.no_grad()
    def maps(self, logits: Tensor, target: Tensor) -> list[Tensor]:
        """Return what is kept of maps until their numbers are made, as they are too large to wait themselves.

        Args:
            logits: from ``read``.
            target: from ``read``.

        Returns:
            ``OF_MAPS`` tensors, float32, NaN where not known: how surely windows are contradicted, [N, 2, h, w], see
            ``contradictions``; how far apart they are, [N]; and IoU and recall of each class, [N, C] each.
        """
        target = decide_targets(target, logits.shape, self.task, self.ignore_index)
        predicted = predicted_classes(logits, self.task)
        # Not of each value, which would take as much memory as they do.
        is_finite = logits.flatten(1).sum(dim=1, dtype=torch.float32).isfinite()
        if can_have_regions(logits, self.task):
            windows = contradictions(logits, predicted, target, is_finite, self.task, self.ignore_index)
            reach = window_reach(logits.shape[-2:])
        else:
            windows = logits.new_full((len(logits), 2, 1, 1), torch.nan, dtype=torch.float32)
            reach = 0
        classes = logits.shape[1] if self.task == "multiclass" else None
        if self.task == "binary":
            # One map per sample, which is that of class 1.
            predicted, target = predicted.flatten(1)[:, None], target.flatten(1)[:, None]
        overlaps, recall = region_overlaps(predicted, target, classes, self.ignore_index)
        overlaps = overlaps.masked_fill(~is_finite[:, None], torch.nan)
        return [windows, windows.new_full((len(windows),), reach), overlaps, recall]

    @torch.no_grad()
    def numbers_of_maps(self, windows: Tensor, reach: Tensor, overlaps: Tensor, recall: Tensor) -> BatchNumbers:
        """Return the numbers of samples with maps, of one batch or of several; the arguments are from ``maps``."""
        numbers = torch.cat([overlaps.nanmean(dim=1)[:, None], strongest_regions(windows), reach[:, None]], dim=1)
        shares = recall if recall.shape[1] <= MOST_CLASSES else recall[:, :0]
        return BatchNumbers("segmentation", numbers, shares, numbers[:, :0])

    @torch.no_grad()
    def numbers(self, kind: str, logits: Tensor, target: Tensor) -> BatchNumbers:
        """Return the numbers of samples without maps, of one batch or of several.

        Args:
            kind: from ``read``.
            logits: from ``read``.
            target: from ``read``.
        """
        target = decide_targets(target, logits.shape, self.task, self.ignore_index)
        nothing = logits.new_zeros((len(logits), 0), dtype=torch.float32)
        if kind == "multilabel":
            few = logits.shape[1] <= MOST_CLASSES
            shares = joined_labels(logits, target, self.ignore_index) if few else nothing
            return BatchNumbers(kind, label_numbers(logits, target, self.ignore_index), shares, nothing)
        logits, target = (two_logits(logits), target.reshape(-1)) if kind == "binary" else (logits, target)
        shares = logits.float().softmax(dim=1)
        numbers = sample_numbers(logits, target, shares)
        if logits.shape[1] <= MOST_CLASSES:
            return BatchNumbers(kind, numbers, shares, nothing)
        best = shares.topk(_BEST_CLASSES, dim=1)
        return BatchNumbers(kind, numbers, best.values, best.indices.float())

    def _logits(self, runner: dl.IRunner, size: int) -> tuple[Tensor, str]:
        """Return the logits and the kind of samples that they are of."""
        logits: Any = pick(runner.batch, self.output_key, "SampleHistory")
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else ()
        if len(shape) > 2 and (self.task != "multiclass" or shape[1] > 1):
            return logits.detach(), "segmentation"
        if self.task == "binary" and shape in ((size,), (size, 1)):
            return logits.detach(), self.task
        if self.task != "binary" and len(shape) == 2 and (self.task == "multilabel" or shape[1] > 1):
            return logits.detach(), self.task
        raise UsageError(
            f"SampleHistory(task={self.task!r}) needs logits of shape {_SHAPES[self.task]}, got {self.output_key!r} "
            f"{described(logits)}."
        )

    def _target(self, runner: dl.IRunner, logits: Tensor) -> Tensor:
        """Return the targets on the device of the logits."""
        target = pick(runner.batch, self.target_key, "SampleHistory")
        target = torch.as_tensor(target, device=logits.device)
        if not is_paired(target.shape, logits.shape, self.task):
            of = f"a class for each of {len(logits)} samples" if logits.ndim < 3 else "a class for each pixel"
            of = "a target for each label" if self.task == "multilabel" else of
            raise UsageError(
                f"SampleHistory(task={self.task!r}) needs {of}, got {self.target_key!r} {described(target)}."
            )
        return target


def joined_labels(logits: Tensor, target: Tensor, ignore_index: int | None) -> Tensor:
    """Return probabilities of labels and whether the labels are there, as one number each, [N, C] float32.

    The probability is positive where the label is there, negative where it is not, and above by 2 where it does not
    count, so that both take two bytes as float16.

    Args:
        logits: [N, C].
        target: [N, C], int64.
        ignore_index: target value that does not count.
    """
    shares = logits.float().sigmoid()
    signed = torch.where(target == 1, shares, -shares)
    return signed.where(is_yes_or_no(target, ignore_index), shares + _UNCOUNTED)


def parted(kind: str, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, [n, C], and of several labels whether they are there, [n, C] int8, else [n, 0].

    Args:
        kind: of samples, see ``BatchNumbers``.
        shares: [n, C], floating point, from ``BatchNumbers``; of samples with boxes, which have no probabilities, what
            stands in their place.
    """
    if kind == "detection":
        shares = shares[:, :0]
    if kind != "multilabel":
        # Of maps it is the recall of classes.
        return shares[:, :0] if kind == "segmentation" else shares, np.zeros((len(shares), 0), np.int8)
    counts = ~(shares >= _UNCOUNTED)
    # Of a probability that is rounded to 0 the sign is still there.
    labels = np.where(counts, ~np.signbit(shares), UNKNOWN_LABEL).astype(np.int8)
    return np.abs(np.where(counts, shares, shares - shares.dtype.type(_UNCOUNTED))), labels
