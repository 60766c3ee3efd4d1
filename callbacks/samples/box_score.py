"""BoxF1: the F1 score of the detected boxes of each sample, to rank samples by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.detections import FOUND, TRUE, pick_boxes
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.box_matching import match_boxes
from ..measures.sample_history import box_numbers
from ..support.host_copy import HostCopy, read_tree


@dataclass(frozen=True)
class BoxF1:
    """F1 of the boxes of each sample, from 0 to 1: 2 hits / (2 hits + false alarms + misses); 1 where there are none.

    Boxes are copied without blocking and matched on the host one step later.

    Args:
        output_key: key of the outputs in the batch: N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4] and ``labels`` [M].
        min_score: predictions below it do not count.
        min_iou: smallest overlap at which a box counts as found.
    """

    output_key: str = OUTPUT_KEY
    target_key: str = TARGET_KEY
    min_score: float = 0.5
    min_iou: float = 0.5

    # A score is called by its function's name in tags and titles.
    @property
    def __name__(self) -> str:
        return "box_f1"

    def __call__(self, batch: Mapping[str, Any]) -> Callable[[], list[float]]:
        """Start copying the boxes of a batch; return a function that gives the score of each sample."""
        found = PackedBoxes(pick_boxes(batch, self.output_key, "box_f1", FOUND), FOUND)
        true = PackedBoxes(pick_boxes(batch, self.target_key, "box_f1", TRUE), TRUE)
        return lambda: [self._score(one, other) for one, other in zip(found.read(), true.read(), strict=True)]

    def _score(self, found: Mapping[str, Any], true: Mapping[str, Any]) -> float:
        # What is below is neither a hit nor a false alarm.
        kept = found["scores"] >= self.min_score
        boxes, scores, labels = (found[name][kept] for name in ("boxes", "scores", "labels"))
        hits = match_boxes(boxes, scores, labels, true["boxes"], true["labels"], min_iou=self.min_iou).hit.sum()
        count = len(boxes) + len(true["boxes"])
        return float(2 * hits / count) if count else 1.0


@dataclass(frozen=True)
class SampleBoxes:
    """Average precision and counts of the boxes of each sample, see ``measures.sample_history.box_numbers``.

    Args:
        output_key: see ``BoxF1``.
        target_key: see ``BoxF1``.
        min_score: predictions below it are neither found nor false.
        min_iou: smallest overlap at which a box counts as found.
    """

    output_key: str
    target_key: str
    min_score: float
    min_iou: float

    def copy(self, batch: Mapping[str, Any]) -> Callable[[], np.ndarray]:
        """Start copying the boxes of a batch; return a function that gives [N, 6], float32, with NaN as the loss."""
        found = PackedBoxes(pick_boxes(batch, self.output_key, "SampleHistory", FOUND), FOUND)
        true = PackedBoxes(pick_boxes(batch, self.target_key, "SampleHistory", TRUE), TRUE)
        return partial(self._read, found, true)

    def _read(self, found: "PackedBoxes", true: "PackedBoxes") -> np.ndarray:
        limits = {"min_score": self.min_score, "min_iou": self.min_iou}
        rows = [[*box_numbers(one, of, **limits), np.nan] for one, of in zip(found.read(), true.read(), strict=True)]
        return np.array(rows, dtype=np.float32).reshape(-1, 6)


class PackedBoxes:
    """The boxes of N images on their way to the host."""

    # One copy per part for all images together, as a small copy costs about as much as a large one.

    def __init__(self, images: Sequence[Mapping[str, Tensor]], names: Sequence[str]):
        self.counts = [len(image["boxes"]) for image in images]
        self.copies = {name: HostCopy(torch.cat([image[name] for image in images])) for name in names}

    def read(self) -> list[dict[str, np.ndarray]]:
        """Return the parts of each image."""
        parts = {name: read_tree(copy) for name, copy in self.copies.items()}
        ends = np.cumsum(self.counts)[:-1]
        split = {name: np.split(part, ends) for name, part in parts.items()}
        return [{name: of[index] for name, of in split.items()} for index in range(len(self.counts))]
