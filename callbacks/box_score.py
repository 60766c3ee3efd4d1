"""A score of a sample's detected boxes, for choosing the best and the worst samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .host_copy import copy_tree, read_tree
from .keys import OUTPUT_KEY, TARGET_KEY, pick
from .measures.box_matching import match_boxes


@dataclass(frozen=True)
class BoxF1:
    """F1 of the boxes of each sample, from 0 to 1: 2 hits / (2 hits + false alarms + misses); 1 where there are none.

    Boxes are copied without blocking, and matched on the host one step later.

    Args:
        output_key: of the batch; N dicts of ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        target_key: of the batch; N dicts of ``boxes`` [M, 4] and ``labels`` [M].
        min_score: predictions below it do not count.
        min_iou: overlap from which on a box is found.
    """

    output_key: str = OUTPUT_KEY
    target_key: str = TARGET_KEY
    min_score: float = 0.5
    min_iou: float = 0.5

    @property
    def __name__(self) -> str:
        return "box_f1"

    def __call__(self, batch: Mapping[str, Any]) -> Callable[[], list[float]]:
        """Start copying the boxes of a batch; what is returned gives the score of each sample."""
        found, true = (copy_tree(pick(batch, key, "box_f1")) for key in (self.output_key, self.target_key))
        return partial(self._scores, found, true)

    def _scores(self, found: Sequence[Mapping[str, Any]], true: Sequence[Mapping[str, Any]]) -> list[float]:
        return [self._score(read_tree(one), read_tree(other)) for one, other in zip(found, true, strict=True)]

    def _score(self, found: Mapping[str, Any], true: Mapping[str, Any]) -> float:
        kept = found["scores"] >= self.min_score
        boxes, scores, labels = (found[name][kept] for name in ("boxes", "scores", "labels"))
        hits = match_boxes(boxes, scores, labels, true["boxes"], true["labels"], min_iou=self.min_iou).hit.sum()
        count = len(boxes) + len(true["boxes"])
        return float(2 * hits / count) if count else 1.0
