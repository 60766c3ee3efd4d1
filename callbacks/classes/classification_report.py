"""ClassificationReport: precision, recall and F1 of every class, as a table per epoch."""

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
_MANY = 20  # classes, from which on the text for a terminal shows the worst alone
_WORST = 10


class ClassificationReport(ClassCounts):
    """Writes precision, recall and F1 of each class every epoch, for each loader.

    The numbers equal those of scikit-learn's ``classification_report`` with ``zero_division=0``, over all samples of
    the epoch and all ranks. Inference loaders are skipped.

    ========================================== ==========================================================
    written to                                 content
    ========================================== ==========================================================
    tag ``1_overview/report``, text, step =    Markdown table: precision, recall, F1 (0 to 1) and support
    epoch; of train ``3_report``               of each class, the one with the lowest F1 first, and
                                               their averages
    ``runner.loader_metrics``                  ``false_positive_rate``, ``false_negative_rate``: 0 to 1,
                                               means over classes, for ``binary`` those of class 1; NaN
                                               if no sample determines them
    ``sink``, at the end of the run            the last table of each loader, by the main process; from
                                               20 classes on the 10 worst of them
    ========================================== ==========================================================

    Args:
        task: ``multiclass`` (output [N, C, ...]: the largest logit wins, and every pixel of a mask is a sample),
            ``binary`` (output [N, ...] or [N, 1, ...]: a positive logit means class 1) or ``multilabel`` (output
            [N, C, ...]: a positive logit means yes).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        prefix: added to tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``; a second callback of this kind
            needs one.
        sink: called with the text of each table at the end of the run.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no TensorBoard logger; at a batch, a
            key is missing, a shape does not fit, or a target on the host is no class; at the end of a loader, any other
            target was no class.
    """

    works_unwritten = True  # it computes metrics
    own_tags = ("report",)
    own_metrics = ("false_positive_rate", "false_negative_rate")
    minor_metrics = own_metrics

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
        self.last_: dict[str, str] = {}  # the table of each loader's last epoch

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.last_ = {}

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        found = classification_report(counts, multilabel=self.task == "multilabel", binary=self.task == "binary")
        rates = {name: getattr(found, name) for name in self.metrics_written(runner.loader_key)}
        self.write_metrics(runner, runner.loader_metrics, rates)
        classes, averages = self._class_rows(found), self._average_rows(found)
        # What a person looks for first is how well the model does on what it has not seen.
        tag = "3_report" if runner.is_train_loader else "1_overview/report"
        # The number of samples of a class is its support, and of masks it is one of pixels.
        header = (*_HEADER[:-1], "pixels") if self.unit == "pixels" else _HEADER
        writer.text(self.full_tag(tag), lambda: markdown_table(header, classes + averages), runner.epoch_step)
        title = f"{self.place(runner.loader_key)} report, epoch {runner.epoch_step}"
        if len(classes) >= _MANY:
            title += f", the {_WORST} worst of {len(classes)} classes; all are in TensorBoard"
        # Another list: the closure above reads the whole one later.
        shown = classes if len(classes) < _MANY else classes[:_WORST]
        self.last_[runner.loader_key] = f"{title}\n{text_table(header, shown + averages)}"

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        super().on_experiment_end(runner)
        # Every rank has the same tables.
        if runner.engine.is_main_process:
            for text in self.last_.values():
                self.sink(text)

    def _class_rows(self, found: Report) -> list[list[str]]:
        """Return the rows of the classes, by F1; those without a sample come last, as they have none."""
        named = zip(self.class_names, found.classes, strict=True)
        ordered = sorted(named, key=lambda row: (row[1]["support"] == 0, row[1]["f1-score"]))
        return [_row(name, scores) for name, scores in ordered]

    def _average_rows(self, found: Report) -> list[list[str]]:
        rows, averages = [], dict(found.averages)
        if found.accuracy is not None:
            # Precision, recall and F1 of the micro average all equal the accuracy then; scikit-learn shows it instead.
            micro = averages.pop("micro avg")
            rows.append(["accuracy", "", "", f"{found.accuracy:.4f}", str(micro["support"])])
        return rows + [_row(name, scores) for name, scores in averages.items()]


def _row(name: str, scores: Mapping[str, float]) -> list[str]:
    return [name, *(f"{scores[score]:.4f}" for score in SCORES[:-1]), str(scores["support"])]
