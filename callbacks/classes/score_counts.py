"""The base of the diagnostics that count the scores of each class over a loader, in bins."""

from collections.abc import Sequence
from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from ..errors import UsageError
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.binned_scores import BinnedScores, default_bins, score_edges
from ..measures.kept_scores import ExactScores, KeptScores
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts, is_integer


class ScoreCounts(ClassCounts):
    """Base of the diagnostics that show the distribution of scores; a subclass fills in ``write``.

    Inference loaders are skipped. Nothing is read from the device within a step. Scores that are NaN are left out, with
    one warning per loader and run (logger ``assay``). Callbacks of one run that need the same counts share them, see
    ``count_key``. Of loaders of up to 4,096 samples or pixels (fewer where there are more than 128 classes) the
    scores themselves are kept too, see ``exact``.

    Args:
        task: ``multiclass`` (output [N, C, ...]: each class against all others, by its softmax probability), ``binary``
            (output [N, ...] or [N, 1, ...]: the logit of class 1) or ``multilabel`` (output [N, C, ...]: one logit per
            label).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        bins: how many bins the scores are counted in, an even number from 16 to 65536; None: as many as
            ``measures.binned_scores.default_bins`` gives.
        prefix: added to tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``; a second callback of this kind
            needs one.

    Raises:
        UsageError: as for ``ClassCounts``; ``bins`` is out of range.
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
        if bins is not None and (not is_integer(bins) or not 16 <= bins <= 2**16 or bins % 2):
            raise UsageError(f"bins must be an even integer from 16 to 65536 or None, got {bins!r}.")
        # For two classes the score of class 1 determines that of class 0.
        self.score_names = self.class_names[1:] if task == "binary" else self.class_names
        self.bins = bins or default_bins(len(self.score_names))
        # The edges depend on the arguments alone, so that counts of all ranks and batches can be added up.
        self.edges = score_edges(task, len(self.score_names), self.bins)
        self.exact_: ExactScores | None = None

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        """Write the counts of the loader over all ranks: [C, 2, B], int64, on the host; C is 1 for ``binary``."""
        raise NotImplementedError

    @property
    def exact(self) -> ExactScores | None:
        """The scores of the loader over all ranks where they were few enough to be kept; otherwise None."""
        return self.source_.exact_ if isinstance(self.source_, ScoreCounts) else None

    def make_measure(self, device: torch.device) -> KeptScores:
        """Return a fresh measure. Its state holds ``counts`` [C, 2, B], ``outside`` and ``nan``."""
        return KeptScores(BinnedScores(self.task, len(self.score_names), self.bins, self.ignore_index, device))

    def begin(self, runner: dl.IRunner) -> None:
        super().begin(runner)
        self.exact_ = None

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if isinstance(self.measure_, KeptScores):
            self.settle(runner)
            self.exact_ = self.measure_.exact()
        super().report(runner, writer)

    def load_loader_state(self, runner: dl.IRunner, state: Any) -> None:
        """Continue from what ``loader_state`` returned."""
        fresh = self.measure_
        super().load_loader_state(runner, state)
        # Checkpoints of before scores were kept hold their counts alone.
        if isinstance(self.measure_, BinnedScores) and isinstance(fresh, KeptScores):
            fresh.continue_from(self.measure_)
            self.measure_ = fresh

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        """Add to the measure what ``take`` returned."""
        # The measure decides soft targets itself, as it bins the output without finding the predicted class.
        self.measure_.update(output, target, *others)

    def name_nan(self, nan: Tensor) -> str:
        # Eight names: with hundreds of classes the line would bury its message.
        names = [self.score_names[index] for index in nan.nonzero()[:, 0].tolist()]
        return f", of {', '.join(names[:8])}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
