"""Fuse the boxes that several models, or several views, found in an image."""

from collections.abc import Mapping, Sequence

import numpy as np

from assay.callbacks.measures.box_matching import box_iou

Boxes = Mapping[str, np.ndarray]


def fuse_boxes(found: Sequence[Boxes], *, min_iou: float = 0.55) -> dict[str, np.ndarray]:
    """Return weighted means of the boxes that overlap.

    R. Solovyev, W. Wang, T. Gabruseva, "Weighted boxes fusion", Image and Vision Computing 107, 2021. In order of
    descending scores, each box joins the group of its label whose mean it overlaps most, if by more than ``min_iou``,
    or starts a new one. A group's box is the mean of its boxes weighted by score. Its score is the mean of their
    scores, reduced in proportion where it has fewer boxes than there are sources.

    Args:
        found: per source, ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        min_iou: 0 to 1.

    Returns:
        ``boxes`` [G, 4], ``scores`` [G] and ``labels`` [G], float64.

    Example:
        >>> model = {"boxes": np.array([[0.0, 0.0, 10.0, 10.0]]), "labels": np.array([1]), "scores": np.array([0.8])}
        >>> shifted = {**model, "boxes": model["boxes"] + 1}
        >>> fuse_boxes([model, shifted])["boxes"]
        array([[ 0.5,  0.5, 10.5, 10.5]])
    """
    boxes, scores, labels = (
        np.concatenate([np.asarray(of[name], dtype=np.float64).reshape(-1, *shape) for of in found])
        for name, shape in (("boxes", (4,)), ("scores", ()), ("labels", ()))
    )
    groups = _Groups(len(boxes))
    for index in np.argsort(-scores, kind="stable"):
        groups.add(boxes[index], scores[index], labels[index], min_iou)
    return groups.merge_groups(len(found))


class _Groups:
    def __init__(self, most: int):
        # Arrays for the most groups there can be, so that overlaps with all of them are one call.
        self.count = 0
        self.means, self.weighted = np.zeros((most, 4)), np.zeros((most, 4))
        self.scores, self.labels, self.members = np.zeros(most), np.zeros(most), np.zeros(most)

    def add(self, box: np.ndarray, score: float, label: float, min_iou: float) -> None:
        group = self._find_group(box, label, min_iou)
        self.labels[group] = label
        self.members[group] += 1
        self.scores[group] += score
        self.weighted[group] += score * box
        # Scores may all be 0, which would make the weighted mean NaN.
        self.means[group] = self.weighted[group] / self.scores[group] if self.scores[group] > 0 else box

    def _find_group(self, box: np.ndarray, label: float, min_iou: float) -> int:
        # Of other labels the overlap is 0, so that one maximum finds the group.
        overlaps = box_iou(box, self.means[: self.count])[0] * (self.labels[: self.count] == label)
        if self.count and overlaps.max() > min_iou:
            return int(overlaps.argmax())
        self.count += 1
        return self.count - 1

    def merge_groups(self, sources: int) -> dict[str, np.ndarray]:
        used = slice(self.count)
        members = self.members[used]
        scores = self.scores[used] / np.maximum(members, 1) * np.minimum(members, sources) / sources
        return {"boxes": self.means[used], "scores": scores, "labels": self.labels[used]}
