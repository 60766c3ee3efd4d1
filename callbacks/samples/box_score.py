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
from ..measures.box_evidence import EVIDENCE, box_evidence
from ..measures.box_matching import match_beside_crowds
from ..measures.sample_history import box_numbers
from ..support.host_copy import HostCopy, read_tree


@dataclass(frozen=True)
class BoxF1:
    """F1 of the boxes of each sample, from 0 to 1: 2 hits / (2 hits + false alarms + misses); 1 where there are none.

    Boxes are copied without blocking and matched on the host one step later.

    Args:
        output_key: key of the outputs in the batch: N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4], ``labels`` [M] and, where there are
            crowds, ``iscrowd`` [M]: a crowd need not be found, and what lies within it is not false.
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
        true = _true_boxes(batch, self.target_key, "box_f1")
        return lambda: [self._score(one, other) for one, other in zip(found.read(), true.read(), strict=True)]

    def _score(self, found: Mapping[str, Any], true: Mapping[str, Any]) -> float:
        # What is below is neither a hit nor a false alarm.
        kept = found["scores"] >= self.min_score
        found = {name: part[kept] for name, part in found.items()}
        matching, counts = match_beside_crowds(found, true, min_iou=self.min_iou)
        count = int(counts.sum()) + len(matching.missed)
        return float(2 * matching.hit.sum() / count) if count else 1.0


@dataclass(frozen=True)
class SampleBoxes:
    """What is kept of the boxes of each sample.

    These are its average precision and counts, see ``measures.sample_history.box_numbers``, and what speaks against its
    true boxes, see ``measures.box_evidence``.

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

    def copy(self, batch: Mapping[str, Any]) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        """Start copying the boxes of a batch.

        Returns:
            A function that returns the numbers of ``KEPT_OF_BOXES``, [N, 4] float32, and those of ``EVIDENCE``, [N, K]
            float16, NaN where they exceed what half precision holds, 65,504.
        """
        found = PackedBoxes(pick_boxes(batch, self.output_key, "SampleHistory", FOUND), FOUND)
        return partial(self._read, found, _true_boxes(batch, self.target_key, "SampleHistory"))

    def _read(self, found: "PackedBoxes", true: "PackedBoxes") -> tuple[np.ndarray, np.ndarray]:
        limits = {"min_score": self.min_score, "min_iou": self.min_iou}
        pairs = [*zip(found.read(), true.read(), strict=True)]
        counts = np.array([box_numbers(one, of, **limits) for one, of in pairs], dtype=np.float32).reshape(-1, 5)
        evidence = np.array([box_evidence(one, of, **limits) for one, of in pairs]).reshape(-1, len(EVIDENCE))
        # How many are found follows from the others.
        return np.delete(counts, 2, axis=1), _halved(evidence)


def _true_boxes(batch: Mapping[str, Any], key: str, asked_by: str) -> "PackedBoxes":
    images = pick_boxes(batch, key, asked_by, TRUE)
    # All images of a data set have crowds or none, as a rule; where some have, the others are of single ones.
    if any("iscrowd" in image for image in images):
        return PackedBoxes([_with_crowds(image) for image in images], (*TRUE, "iscrowd"))
    return PackedBoxes(images, TRUE)


def _with_crowds(image: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return image if "iscrowd" in image else {**image, "iscrowd": torch.zeros_like(image["labels"])}


def _halved(values: np.ndarray) -> np.ndarray:
    """Return numbers in half precision, NaN where they are too large for it."""
    return np.where(np.abs(values) <= np.finfo(np.float16).max, values, np.nan).astype(np.float16)


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
