"""The base of the diagnostics that count true and predicted boxes over a loader."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from catalyst import dl

from ..base.detections import FOUND, TRUE, Detections, pick_boxes
from ..base.diagnostic import Diagnostic
from ..base.shared_counts import first_alike, key_of_methods
from ..errors import UsageError
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.box_counts import BoxCounts as Counts
from ..measures.box_counts import merge_counts
from ..measures.coco_precision import pack
from ..support.class_names import check_names, name_of
from ..support.distributed import gather_objects
from ..support.host_copy import HostCopy, is_read_at_once, read_tree
from ..tensorboard.writer import Writer


class BoxCounts(Diagnostic):
    """Base of the diagnostics that show counts of true and predicted boxes; a subclass fills in ``write``.

    Boxes are copied without blocking, and matched on the host one step later, by the rule of ``measures.box_counts``.
    Memory is bounded by the number of labels. Callbacks of one run with the same arguments share the counts. Inference
    loaders are skipped, and so are training loaders whose batches hold no detections: torchvision's detectors return
    none while they train.

    Args:
        class_names: one per label, from label 0 on; None: labels are shown by number.
        output_key: key of the detections in the batch: N dicts of ``boxes`` [P, 4] (left, top, right, bottom),
            ``scores`` [P], 0 to 1, and ``labels`` [P].
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4], ``labels`` [M] and, if there are
            crowds, ``iscrowd`` [M], 0 or 1.
        min_score: predictions with a lower score do not count where one number is shown, from 0 to 1.
        min_iou: smallest IoU at which a box counts as found, from 0 to 1.
        prefix: added in front of tags and metrics, as ``PREFIX/NAME``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the first batch, a key is missing or holds no boxes.
    """

    def __init__(
        self,
        *,
        class_names: Sequence[str] | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        min_score: float = 0.5,
        min_iou: float = 0.5,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        for name, value in (("min_score", min_score), ("min_iou", min_iou)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} must be from 0 to 1, got {value!r}.")
        self.class_names = check_names(class_names)
        self.output_key, self.target_key = output_key, target_key
        self.min_score, self.min_iou = min_score, min_iou
        self.detections_ = Detections(output_key, type(self).__name__)
        self.source_: BoxCounts = self  # the callback that counts, for this one too
        self.measure_: Counts | None = None
        self.counts_: Counts | None = None
        self.pending_: list[tuple[HostCopy, list[int]]] | None = None

    def write(self, runner: dl.IRunner, writer: Writer, counts: Counts) -> None:
        """Write the counts of the loader over all ranks."""
        raise NotImplementedError

    def name(self, label: int) -> str:
        """Return the name of a label."""
        return name_of(label, self.class_names)

    @property
    @final
    def count_key(self) -> tuple[Any, ...]:
        """A value that is equal for two callbacks with the same counts."""
        return key_of_methods(self, ("begin", "observe", "settle"))

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.source_ = first_alike(runner, self, BoxCounts)

    def begin(self, runner: dl.IRunner) -> None:
        self.measure_, self.counts_, self.pending_ = None, None, None
        if self.source_ is self and not runner.is_infer_loader:
            self.measure_ = Counts(self.min_score, self.min_iou)

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None or self.detections_.are_missing(runner):
            return
        parts = ((self.output_key, FOUND), (self.target_key, TRUE))
        found, true = (pick_boxes(runner.batch, key, type(self).__name__, names) for key, names in parts)
        if not len(true):
            return
        # How many boxes each image has is known on the host, where the rows are taken apart by it.
        counts = [[len(image["labels"]) for image in images] for images in (found, true)]
        copies = HostCopy(pack(found), own=True), HostCopy(pack(true), own=True)
        # The copies start before the last step is matched, so that they travel meanwhile.
        self.settle(runner)
        self.pending_ = [*zip(copies, counts, strict=True)]
        if is_read_at_once(runner):
            self.settle(runner)

    def settle(self, runner: dl.IRunner) -> None:
        """Match the boxes of the last step."""
        if self.pending_ is None or self.measure_ is None:
            return
        found, true = (_take_apart(read_tree(copy), counts) for copy, counts in self.pending_)
        self.pending_ = None
        for pair in zip(found, true, strict=True):
            self.measure_.update(*pair)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is not None:
            self.settle(runner)
            # A collective: the callback that counts for the others is the same one on every rank.
            self.counts_ = merge_counts(gather_objects(self.measure_))
            self.measure_ = None
            self._warn(runner, writer, self.counts_)
        counts = self.source_.counts_
        if counts is not None and counts.images:
            self.write(runner, writer, counts)

    def _warn(self, runner: dl.IRunner, writer: Writer, counts: Counts) -> None:
        place = f"{type(self).__name__}, {self.place(runner.loader_key)} epoch {runner.epoch_step}"
        if counts.left_out:
            writer.warn(f"{place}: {counts.left_out} predictions are not finite and left out.")
        if counts.outside:
            writer.warn(f"{place}: {counts.outside} scores are not from 0 to 1, and count as the nearer of both.")


def _take_apart(packed: np.ndarray, counts: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Return the boxes of each image, of what ``pack`` has joined."""
    # Each image has a row before its boxes.
    images = np.split(packed, np.cumsum([count + 1 for count in counts])[:-1])
    return [
        {
            "boxes": rows[1:, 1:5],
            "labels": rows[1:, 5].astype(np.int64),
            "scores": rows[1:, 6].astype(np.float32),
            "iscrowd": np.nan_to_num(rows[1:, 6]) > 0,
        }
        for rows in images
    ]
