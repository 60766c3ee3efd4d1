"""Precision, recall and F1 of every class, as a table, and the rates of false alarms and misses as metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from catalyst import dl
from torch import Tensor

from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.classification_report import SCORES, Report, classification_report
from ..support.tables import markdown_table, text_table
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts

_HEADER = ("", *SCORES)


class ClassificationReport(ClassCounts):
    """Writes every epoch, for each loader, how well each class is recognized.

    The numbers are those of scikit-learn's ``classification_report`` with ``zero_division=0``, over all samples of the
    epoch and all ranks. Loaders for inference are left out.

    ========================================== ==========================================================
    written to                                 content
    ========================================== ==========================================================
    tag ``report``, text, step = epoch         Markdown table: precision, recall, F1 (0 to 1) and support
                                               of each class, and their averages
    ``runner.loader_metrics``                  ``false_positive_rate``, ``false_negative_rate``: 0 to 1,
                                               means over classes, for ``binary`` those of class 1; NaN
                                               where no sample says
    ``sink``, at the end of the run            the last table of each loader, by the main process
    ========================================== ==========================================================

    Args:
        task: ``multiclass`` (output [N, C, ...], the largest wins, so a pixel counts as a sample), ``binary`` (output
            [N, ...] or [N, 1, ...], positive means class 1) or ``multilabel`` (output [N, C, ...], positive means yes).
        num_classes: C; ``class_names`` may stand in for it. Not needed for ``binary``.
        class_names: one a class or label; without, they are shown by number.
        ignore_index: target value that is left out.
        output_key: of the batch; logits.
        target_key: of the batch; class numbers [N, ...], or 0 and 1 in the output's shape.
        prefix: stands before the tags and metrics, ``PREFIX/NAME``, for a second callback of this kind in the run.
        sink: takes the tables at the end of the run, one text each.

    Raises:
        UsageError: an argument is out of range; at a batch, when a key is missing or a shape does not fit; at the end
            of a loader, when a target was no class; at the start of the run, when there is no TensorBoard logger.
    """

    works_unwritten = True  # it computes metrics
    own_tags = ("report",)
    own_metrics = ("false_positive_rate", "false_negative_rate")

    def __init__(
        self,
        *,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        prefix: str = "",
        sink: Callable[[str], Any] = print,
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
        self.sink = sink
        self.last_: dict[str, str] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.last_ = {}

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        found = classification_report(counts, multilabel=self.task == "multilabel", binary=self.task == "binary")
        rates = {name: getattr(found, name) for name in self.metrics_written(runner.loader_key)}
        self.write_metrics(runner, runner.loader_metrics, rates)
        rows = self._rows(found)
        writer.text(self.named("report"), lambda: markdown_table(_HEADER, rows), runner.epoch_step)
        title = f"{self.place(runner.loader_key)} report, epoch {runner.epoch_step}"
        self.last_[runner.loader_key] = f"{title}\n{text_table(_HEADER, rows)}"

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        super().on_experiment_end(runner)
        if runner.engine.is_main_process:
            for text in self.last_.values():
                self.sink(text)

    def _rows(self, found: Report) -> list[list[str]]:
        rows = [_row(name, scores) for name, scores in zip(self.class_names, found.classes, strict=True)]
        averages = dict(found.averages)
        if found.accuracy is not None:  # precision, recall and F1 of the micro average are all the accuracy
            micro = averages.pop("micro avg")
            rows.append(["accuracy", "", "", f"{found.accuracy:.4f}", str(micro["support"])])
        return rows + [_row(name, scores) for name, scores in averages.items()]


def _row(name: str, scores: Mapping[str, float]) -> list[str]:
    return [name, *(f"{scores[score]:.4f}" for score in SCORES[:-1]), str(scores["support"])]
