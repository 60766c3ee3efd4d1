"""What the diagnostics of scores share: counting over a loader how scores are distributed over the truth."""

from collections.abc import Sequence

import torch
from catalyst import dl
from torch import Tensor

from ..errors import UsageError
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.binned_scores import BinnedScores, default_bins, score_edges
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts, _is_integer


class ScoreCounts(ClassCounts):
    """Base of the diagnostics that are drawn from binned scores; a subclass fills in ``write``.

    Loaders for inference are left out. Nothing is read from the device within a step. Scores that are NaN are left out
    and said (logger ``assay``), once a loader and run. Several of these in one run that count the same count it once.

    Args:
        task: ``multiclass`` (output [N, C, ...], each class against the rest by its softmax), ``binary`` (output
            [N, ...] or [N, 1, ...], the logit of class 1) or ``multilabel`` (output [N, C, ...], a logit a label).
        num_classes: C; ``class_names`` may stand in for it. Not needed for ``binary``.
        class_names: one a class or label; without, they are shown by number.
        ignore_index: target value that is left out.
        output_key: of the batch; logits.
        target_key: of the batch; class numbers [N, ...], or 0 and 1 in the output's shape.
        bins: an even number from 16 to 65536; None: see ``measures.binned_scores.default_bins``.
        prefix: stands before the tags and metrics, ``PREFIX/NAME``, for a second callback of this kind in the run.

    Raises:
        UsageError: as ``ClassCounts``; ``bins`` is out of range.
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
        bins: int | None = None,
        prefix: str = "",
    ):
        super().__init__(
            task=task,
            num_classes=num_classes,
            class_names=class_names,
            ignore_index=ignore_index,
            output_key=output_key,
            target_key=target_key,
            prefix=prefix,
        )
        if bins is not None and (not _is_integer(bins) or not 16 <= bins <= 2**16 or bins % 2):
            raise UsageError(f"bins must be an even integer from 16 to 65536 or None, got {bins!r}.")
        # Of two classes one score says all.
        self.score_names = self.class_names[1:] if task == "binary" else self.class_names
        self.bins = bins or default_bins(len(self.score_names))
        self.edges = score_edges(task, len(self.score_names), self.bins)

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        """Show the counts of the loader over all ranks, [C, 2, B], int64 on the host; C is 1 for ``binary``."""
        raise NotImplementedError

    def make_measure(self, device: torch.device) -> BinnedScores:
        """Return a measure whose state holds ``counts``, [C, 2, B], ``outside`` and ``nan``."""
        return BinnedScores(self.task, len(self.score_names), self.bins, self.ignore_index, device)

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        """Hand to the measure what ``take`` returned."""
        self.measure_.update(output, target, *others)

    def name_nan(self, nan: Tensor) -> str:
        names = [self.score_names[index] for index in nan.nonzero()[:, 0].tolist()]
        return f", of {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
