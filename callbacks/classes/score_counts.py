"""What the diagnostics of scores share: counting over a loader how scores are distributed over the truth."""

from collections.abc import Mapping, Sequence

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
        self.said_: set[tuple[str, str]] = set()

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        """Show the counts of the loader over all ranks, [C, 2, B], int64 on the host; C is 1 for ``binary``."""
        raise NotImplementedError

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.said_ = set()

    def make_measure(self, device: torch.device) -> BinnedScores:
        """Return a measure whose state holds ``counts``, [C, 2, B], ``outside`` and ``nan``."""
        return BinnedScores(self.task, len(self.score_names), self.bins, self.ignore_index, device)

    def count(self, output: Tensor, target: Tensor, *others: Tensor) -> None:
        """Hand to the measure what ``take`` returned."""
        self.measure_.update(output, target, *others)

    def check(self, runner: dl.IRunner, writer: Writer, state: Mapping[str, Tensor]) -> None:
        """Raise or say what is wrong with the state of a loader, over all ranks."""
        super().check(runner, writer, state)
        self._say_nan(runner, writer, state["nan"].cpu())

    def say(self, runner: dl.IRunner, writer: Writer, kind: str, text: str) -> None:
        """Log a warning, the first of its kind in this loader and run."""
        if (runner.loader_key, kind) in self.said_:
            return
        self.said_.add((runner.loader_key, kind))
        writer.warn(f"{type(self).__name__}, {self.place(runner.loader_key)} epoch {runner.epoch_step}: {text}")

    def _say_nan(self, runner: dl.IRunner, writer: Writer, nan: Tensor) -> None:
        if total := int(nan.sum()):
            names = [self.score_names[index] for index in nan.nonzero()[:, 0].tolist()]
            listed = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            self.say(runner, writer, "nan", f"{total} scores are NaN and left out, of {listed}.")
