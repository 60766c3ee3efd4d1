"""PRCurves: precision, recall and ROC of each class at every threshold, per epoch."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor

from ..drawings.canvas.fonts import shown_names
from ..drawings.roc import draw_roc
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.score_curves import ScoreSummary, at_least, groups, mean_known, roc_points, summarize_scores
from ..support.tables import markdown_table
from ..tensorboard.writer import Writer
from .score_counts import ScoreCounts

# A number that may be off by more than this is logged with the advice to raise ``bins``: it decides nothing then.
# Smaller bounds, as of a confident model whose scores share the last bin, stand beside the number in the table.
LARGEST_BOUND = 0.05

# As many as TensorBoard's own writers use; it shows them as equidistant.
_THRESHOLDS = 127
_COUNTS_OF_MASKS = ("positive pixels", "negative pixels")  # columns of the table


class PRCurves(ScoreCounts):
    """Shows every epoch, for each loader, precision and recall at every threshold, and the ROC curve.

    Each of several classes is compared with all others, by its softmax probability. All samples of the epoch count,
    over all ranks; for masks, all pixels. Inference loaders are skipped.

    Of loaders of up to 4,096 samples or pixels (fewer where there are more than 128 classes) the scores themselves are
    kept: the numbers are exact, and their bounds 0. Of larger ones scores are counted in bins, so each number comes
    with a bound on its error. A bound above 0.005 is logged (logger ``assay``), once per loader and run. A class
    without positives or without negatives has no value (NaN) and is left out of means.

    ============================================ ======== ==============================================================
    written to                                   kind     content
    ============================================ ======== ==============================================================
    tag ``5_predictions/precision_recall/CLASS`` pr_curve step = epoch; counts, precision and recall at 127 thresholds,
                                                          0 to 1; each is moved up to the next edge of a bin
    tag ``5_predictions/roc``                    image    step = epoch; [H, W, 3] uint8 RGB, all classes
    tag ``4_metrics_per_class/curves``           text     step = epoch; Markdown table of all numbers by class, worst
                                                          first
    ``average_precision``                        metric   mean over classes, 0 to 1; step-wise, as in scikit-learn
    ``roc_auc``                                  metric   mean over classes, 0 to 1
    ``average_precision_bound``                  metric   largest over classes, 0 to 1
    ``roc_auc_bound``                            metric   largest over classes, 0 to 1
    ``best_f1_threshold``                        metric   for ``binary``: the probability from which on class 1 should
                                                          be predicted for the best F1
    ============================================ ======== ==============================================================

    Metrics are in ``runner.loader_metrics``. The attribute ``thresholds_`` holds ``{loader: {class: {...}}}`` for the
    last epoch, with ``threshold`` (a probability), ``logit`` (the same as a logit, which also separates probabilities
    that round to 1), ``f1``, ``average_precision``, ``roc_auc``, ``positives`` and ``negatives``. Checkpoints of a
    runner that saves the states of its callbacks, as ``DictRunner`` does, hold it too.

    Args:
        task: ``multiclass`` (output [N, C, ...]: each class against all others, by its softmax probability), ``binary``
            (output [N, ...] or [N, 1, ...]: the logit of class 1) or ``multilabel`` (output [N, C, ...]: one logit per
            label).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        bins: how many bins the scores are counted in, an even number from 16 to 65536, at 16 bytes per class and bin;
            None: 8192 for up to 256 classes, fewer for more.
        prefix: added to tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``; a second callback of this kind
            needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no TensorBoard logger; at a batch, a
            key is missing, a shape does not fit, or a target on the host is no class; at the end of a loader, any other
            target was no class.
    """

    works_unwritten = True  # it computes metrics
    own_tags = ("5_predictions/roc", "4_metrics_per_class/curves")
    own_metrics = ("average_precision", "roc_auc")
    minor_metrics = (*own_metrics, "best_f1_threshold")

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
            bins=bins,
            prefix=prefix,
        )
        self.thresholds_: dict[str, dict[str, dict[str, float]]] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        self.thresholds_ = {}

    def state_dict(self) -> dict[str, Any]:
        """Return ``thresholds_``, in plain dicts."""
        return {loader: {name: dict(of) for name, of in by.items()} for loader, by in self.thresholds_.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.thresholds_ = {loader: {name: dict(of) for name, of in by.items()} for loader, by in state.items()}

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        exact, step = self.exact, runner.epoch_step
        shown, edges = (counts, self.edges) if exact is None else (exact.counts, exact.edges)
        found = summarize_scores(shown, edges)
        self.write_metrics(runner, runner.loader_metrics, self._metrics(found))
        self.thresholds_[runner.loader_key] = self._by_class(found)
        self._warn_of_bounds(runner, writer, found)
        of = " of pixels" if self.unit == "pixels" else ""
        title = f"{self.place(runner.loader_key)} ROC{of}, epoch {step}"
        # As closures: curves and pictures of many classes take time, which the writer's thread spends.
        writer.pr_curves(partial(self._curves, counts), step)
        writer.image(self.full_tag("5_predictions/roc"), partial(self._draw, shown, found, title), step)
        writer.text(self.full_tag("4_metrics_per_class/curves"), partial(self._table, found), step)

    def _curves(self, counts: Tensor) -> dict[str, np.ndarray]:
        tags = [self.full_tag(f"5_predictions/precision_recall/{name}") for name in self.score_names]
        return dict(zip(tags, _pr_curves(counts, self.edges), strict=True))

    def _draw(self, counts: Tensor, found: ScoreSummary, title: str) -> np.ndarray:
        names = shown_names(self.class_names)[-len(self.score_names) :]
        false, true = roc_points(counts)
        return draw_roc(false.numpy(), true.numpy(), found.roc_auc.numpy(), found.roc_auc_bound.numpy(), names, title)

    def _metrics(self, found: ScoreSummary) -> dict[str, float]:
        metrics = {name: mean_known(getattr(found, name)) for name in ("average_precision", "roc_auc")}
        for name in ("average_precision_bound", "roc_auc_bound"):
            bounds = getattr(found, name)
            # A class without a value has no bound either, and must not hide the largest one of the others.
            metrics[name] = float(bounds.nan_to_num(-1).max()) if bounds.isfinite().any() else float("nan")
        if self.task == "binary":
            metrics["best_f1_threshold"] = float(found.threshold[0])
        return metrics

    def _by_class(self, found: ScoreSummary) -> dict[str, dict[str, float]]:
        columns = {
            "threshold": found.threshold,
            "logit": found.logit,
            "f1": found.best_f1,
            "average_precision": found.average_precision,
            "roc_auc": found.roc_auc,
            "positives": found.positives,
            "negatives": found.negatives,
        }
        rows = zip(*(values.tolist() for values in columns.values()), strict=True)
        return {name: dict(zip(columns, row, strict=True)) for name, row in zip(self.score_names, rows, strict=True)}

    def _warn_of_bounds(self, runner: dl.IRunner, writer: Writer, found: ScoreSummary) -> None:
        # One warning for the worst number of all classes: it names what to raise, which helps every other one too.
        bounds = torch.stack([found.roc_auc_bound, found.average_precision_bound]).nan_to_num(0)
        if float(bounds.max()) <= LARGEST_BOUND:
            return
        kind, index = divmod(int(bounds.argmax()), len(self.score_names))
        text = (
            f"the {('ROC AUC', 'average precision')[kind]} of class {self.score_names[index]} may be off by "
            f"{float(bounds.max()):.2g}, because its scores share bins: raise PRCurves(bins=...), now {self.bins}. "
            "Equal scores share one in any case."
        )
        self.warn_once(runner, writer, "bound", text)

    def _table(self, found: ScoreSummary) -> str:
        positives, negatives = ("positives", "negatives") if self.unit == "samples" else _COUNTS_OF_MASKS
        columns = {
            "average precision": _decimals(found.average_precision, 4),
            "± of it": _decimals(found.average_precision_bound, 5),
            "ROC AUC": _decimals(found.roc_auc, 4),
            "± of this": _decimals(found.roc_auc_bound, 5),
            "best F1": _decimals(found.best_f1, 4),
            "threshold": _decimals(found.threshold, 6),
            "logit": _decimals(found.logit, 3),
            positives: _decimals(found.positives, 0),
            negatives: _decimals(found.negatives, 0),
        }
        last = {
            "average precision": f"{mean_known(found.average_precision):.4f}",
            "ROC AUC": f"{mean_known(found.roc_auc):.4f}",
            "best F1": f"{mean_known(found.best_f1):.4f}",
            positives: str(int(found.positives.sum())),
        }
        # Exact numbers need no bounds.
        shown = [name for name in columns if "±" not in name or set(columns[name]) - {"-", "0.00000"}]
        # The worst first; NaN, of a class without a value, last.
        order = found.average_precision.argsort(stable=True).tolist()
        rows = [[self.score_names[index], *(columns[name][index] for name in shown)] for index in order]
        # Of a single class the mean would repeat its row.
        if len(rows) > 1:
            rows.append(["mean", *(last.get(name, "") for name in shown)])
        return markdown_table(["", *("±" if "±" in name else name for name in shown)], rows)


def _decimals(values: Tensor, digits: int) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.{digits}f}" for value in values.tolist()]


def _pr_curves(counts: Tensor, edges: Tensor) -> np.ndarray:
    """Return [C, 6, T] as ``Writer.pr_curves`` takes them, of counts [C, 2, B]."""
    thresholds = torch.linspace(0, 1, _THRESHOLDS, dtype=torch.float64)
    places = torch.searchsorted(edges, thresholds.logit())
    predicted = torch.cat([at_least(some)[:, :, places] for some in groups(counts)])
    false, true = predicted.double().unbind(dim=1)
    precision, recall = true / (true + false).clamp(min=1), true / true[:, :1].clamp(min=1)
    below = predicted[:, :, :1] - predicted
    columns = (true, false, below[:, 0].double(), below[:, 1].double(), precision, recall)
    curves: np.ndarray = torch.stack(columns, dim=1).numpy()
    return curves
