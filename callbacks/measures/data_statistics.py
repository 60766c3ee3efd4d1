"""Counts of labels, and sizes of images and boxes, of the samples of a loader; all on the host."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..support.checkpoint_values import stored_as
from .targets import NO_CLASS, class_of_distribution, decide_targets

PER_OCTAVE = 4
"""Bins of a size between one power of two and the next."""

_SIZE_BINS = 17 * PER_OCTAVE  # up to 131,072 pixels
_MOST_BOXES = 200  # of an image; more count as these
_MOST_CLASSES = 65536
_PIXELS = 64  # of a side of a mask that are looked at, at least


@stored_as("DataStatistics")
class DataStatistics:
    """Counts what a data set holds: samples per class or label, or pixels, and sizes.

    Memory: a number per class and per bin.

    Attributes:
        samples: number of samples.
        labels: [C], float64; how many samples, boxes or pixels each class or label has.
        unit: what has a label: ``samples``, ``boxes``, ``pixels``; empty as long as there is none.
        left_out: how many labels were no class: below 0 or too large.
        sides: [B]; how many images have a longer side in each bin.
        shapes: smallest and largest height, smallest and largest width.
        boxes: [M]; how many images have so many boxes.
        box_sides: [B]; how many boxes have the root of their area in each bin.

    Example:
        >>> measure = DataStatistics()
        >>> measure.update([(32, 48), (32, 48)], np.array([0, 2]))
        >>> measure.labels.tolist(), measure.unit, measure.shapes
        ([1.0, 0.0, 1.0], 'samples', [32, 32, 48, 48])
    """

    def __init__(self) -> None:
        self.samples = 0
        self.labels = np.zeros(0)
        self.unit = ""
        self.left_out = 0
        self.sides = np.zeros(_SIZE_BINS)
        self.shapes: list[int] = []
        self.boxes = np.zeros(_MOST_BOXES + 1)
        self.box_sides = np.zeros(_SIZE_BINS)

    def update(
        self,
        shapes: Sequence[tuple[int, int]],
        target: Any,
        ignore_index: int | None = None,
        task: str | None = None,
    ) -> None:
        """Count a batch.

        Args:
            shapes: height and width of each image.
            target: N dicts of ``boxes`` [M, 4] and ``labels`` [M]; or an array of class numbers [N] or [N, H, W], or of
                0 and 1 [N, C] or [N, C, H, W], or soft ones, see ``decide_targets``; anything else counts as no label.
            ignore_index: target value that does not count.
            task: ``multiclass``, ``binary`` or ``multilabel``; None: soft targets are classes where they add up to 1.
        """
        self.samples += len(shapes)
        if shapes:
            heights, widths = np.array(shapes).T
            self.sides += np.bincount(size_bin(np.maximum(heights, widths)), minlength=_SIZE_BINS)
            self._widen([int(heights.min()), int(heights.max()), int(widths.min()), int(widths.max())])
        if isinstance(target, Sequence) and target and all(_has_boxes(one) for one in target):
            for one in target:
                self._add_boxes(np.asarray(one["boxes"]).reshape(-1, 4), np.asarray(one["labels"]).reshape(-1))
        elif isinstance(target, np.ndarray):
            self._add_array(_decided(target, ignore_index, task), ignore_index)

    def merge(self, other: "DataStatistics") -> None:
        """Add what another rank has counted."""
        self.samples += other.samples
        self.unit, self.left_out = self.unit or other.unit, self.left_out + other.left_out
        self.labels = _sum(self.labels, other.labels)
        self.sides, self.boxes = self.sides + other.sides, self.boxes + other.boxes
        self.box_sides = self.box_sides + other.box_sides
        self._widen(other.shapes)

    def _widen(self, shapes: Sequence[int]) -> None:
        choose = (min, max, min, max)
        pairs = zip(choose, self.shapes or shapes, shapes, strict=True)
        self.shapes = [int(pick(one, other)) for pick, one, other in pairs] if shapes else self.shapes

    def _add_boxes(self, boxes: np.ndarray, labels: np.ndarray) -> None:
        self.boxes[min(len(boxes), _MOST_BOXES)] += 1
        areas = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
        self.box_sides += np.bincount(size_bin(np.sqrt(areas)), minlength=_SIZE_BINS)
        self._add_classes(labels, "boxes")

    def _add_array(self, target: np.ndarray, ignore_index: int | None) -> None:
        if target.ndim in (2, 4) and target.shape[1] == 1:
            target = target[:, 0]
        if target.ndim > 2:
            # A part of the pixels, evenly spread: the shares of the classes need no more.
            rows, columns = (max(1, side // _PIXELS) for side in target.shape[-2:])
            target = target[..., ::rows, ::columns]
        if target.ndim not in (1, 2, 3, 4):
            return
        unit = "samples" if target.ndim < 3 else "pixels"
        if target.ndim % 2:  # [N] or [N, H, W]
            self._add_classes(target[target != ignore_index] if ignore_index is not None else target, unit)
        elif ((target == 0) | (target == 1) | (target == ignore_index)).all():
            self._add(np.moveaxis(target, 1, 0).reshape(target.shape[1], -1).astype(np.float64) == 1, unit)

    def _add_classes(self, labels: np.ndarray, unit: str) -> None:
        values = labels.reshape(-1)
        if values.dtype.kind not in "biu" and not (values == np.rint(values)).all():
            return
        inside = values[(values >= 0) & (values < _MOST_CLASSES)]
        self.left_out += values.size - inside.size
        self.unit = unit
        self.labels = _sum(self.labels, np.bincount(inside.astype(np.int64)).astype(np.float64))

    def _add(self, present: np.ndarray, unit: str) -> None:
        self.unit = unit
        self.labels = _sum(self.labels, present.sum(axis=1).astype(np.float64))


def _decided(target: np.ndarray, ignore_index: int | None, task: str | None) -> np.ndarray:
    """Return a target with what soft values count as, as all measures take them; other targets as they are."""
    if target.dtype.kind != "f" or not target.ndim or (target == np.rint(target)).all():
        return target
    values = torch.as_tensor(target)
    if task in ("binary", "multilabel"):
        return decide_targets(values, values.shape, task, ignore_index).numpy()
    if target.ndim not in (2, 4) or target.shape[1] < 2:
        return target
    if task == "multiclass":
        return decide_targets(values, values.shape, task, ignore_index).numpy()
    classes = class_of_distribution(values).numpy()
    return target if (classes == NO_CLASS).any() else classes


def _has_boxes(target: Any) -> bool:
    return isinstance(target, Mapping) and all(target.get(key) is not None for key in ("boxes", "labels"))


def size_bin(sizes: np.ndarray) -> np.ndarray:
    """Return the bins of sizes in pixels; the first one also holds all below a pixel."""
    bins: np.ndarray = np.floor(PER_OCTAVE * np.log2(np.maximum(sizes, 1))).astype(np.int64)
    return bins.clip(0, _SIZE_BINS - 1)


def _sum(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    total = np.zeros(max(len(one), len(other)))
    total[: len(one)] += one
    total[: len(other)] += other
    return total
