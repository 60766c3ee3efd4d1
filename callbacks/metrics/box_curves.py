"""BoxCurves: precision, recall and F1 of a detector at every score, and a table by class."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from catalyst import dl

from ..drawings.box_curves import NamedCurves, draw_by_confidence, draw_precision_recall
from ..drawings.canvas.fonts import shown_names
from ..measures.box_counts import THRESHOLDS, BoxScores, box_curves, box_scores, overall_curves
from ..measures.box_counts import BoxCounts as Counts
from ..measures.box_counts import BoxCurves as Curves
from ..measures.coco_precision import SIZES, CocoPrecision, Figures
from ..support.tables import markdown_table
from ..tensorboard.writer import Writer
from .box_counts import BoxCounts
from .box_metrics import BoxMetrics

_HEADER = ("", "true", "predicted", "precision", "recall", "F1", "best F1", "from score")
_PRECISIONS = ("AP", "AP50", *(f"AP {size}" for size in SIZES))


class BoxCurves(BoxCounts):
    """Shows every epoch, for each loader, precision, recall and F1 of boxes by the score from which on they count.

    A prediction is a hit if its IoU with a true box of its label is at least ``min_iou``; see ``measures.box_counts``.
    All boxes of the epoch count, over all ranks. Scores are counted in 1,000 steps from 0 to 1; at each of them the
    numbers are exact.

    ================================== ====== ==================================================================
    written to                         kind   content
    ================================== ====== ==================================================================
    tag ``5_predictions/precision_recall`` image  step = epoch; [H, W, 3] uint8 RGB: precision by recall, by class
    tag ``5_predictions/by_confidence``    image  step = epoch; [H, W, 3] uint8 RGB: F1, precision and recall by score
    tag ``1_overview/report``, of train    text   step = epoch; Markdown table by class, the worst F1 first: boxes,
    ``3_report``                          precision, recall and F1 at ``min_score``, the best F1 and its
                                                  score, and, beside a ``BoxMetrics``, COCO's average precision
    ``box_precision``, ``box_recall``,     metric of all boxes from ``min_score`` on, 0 to 1
    ``box_f1``
    ``box_f1/CLASS``                       metric the same of one class that has a true box
    ``box_f1_threshold``                   metric the score from which on the F1 of all boxes is the largest; NaN
                                                  where nothing is hit
    ================================== ====== ==================================================================

    Args:
        options: those of ``BoxCounts``, which names its errors too.
    """

    works_unwritten = True  # it computes metrics
    own_tags = ("5_predictions/precision_recall", "5_predictions/by_confidence")
    own_metrics = ("box_precision", "box_recall", "box_f1", "box_f1_threshold")
    minor_metrics = ("box_precision", "box_recall", "box_f1_threshold")

    def write(self, runner: dl.IRunner, writer: Writer, counts: Counts) -> None:
        by_label, whole = box_scores(counts)
        curves, overall = box_curves(counts), overall_curves(counts)
        threshold = float(overall.best[1][0])
        values = {"box_precision": whole.precision, "box_recall": whole.recall, "box_f1": whole.f1}
        of_classes = {f"box_f1/{self.name(label)}": one.f1 for label, one in by_label.items() if one.true}
        self.write_metrics(runner, runner.loader_metrics, {**values, "box_f1_threshold": threshold, **of_classes})
        coco, step = self._find_coco(runner), runner.epoch_step
        shown = self._named(curves, overall, coco)
        head = f"{self.place(runner.loader_key)} boxes, epoch {step}"
        titles = [head, f"IoU from {self.min_iou:g}"], [head, _best(overall)]
        writer.image(self.full_tag(self.own_tags[0]), partial(draw_precision_recall, shown, titles[0]), step)
        draw = partial(draw_by_confidence, shown, self.min_score, titles[1])
        writer.image(self.full_tag(self.own_tags[1]), draw, step)
        tag = "3_report" if runner.is_train_loader else "1_overview/report"
        writer.text(self.full_tag(tag), partial(self._table, by_label, whole, curves, overall, coco), step)

    def _find_coco(self, runner: dl.IRunner) -> CocoPrecision | None:
        """Return COCO's figures of the same boxes, if another callback of the run has computed them."""
        keys = self.output_key, self.target_key
        others = [one for one in runner.callbacks.values() if isinstance(one, BoxMetrics)]
        return next((one.coco_ for one in others if (one.score.output_key, one.target_key) == keys), None)

    def _named(self, curves: Curves, overall: Curves, coco: CocoPrecision | None) -> NamedCurves:
        """Return the curves of the classes that have a true box, from the worst F1 to the best."""
        best, scores = curves.best
        chosen = [index for index in np.argsort(np.nan_to_num(best), kind="stable") if curves.true[index]]
        precisions = {} if coco is None else {label: f"AP50 {of.ap50:.3f}" for label, of in coco.by_label.items()}
        whole = "" if coco is None or math.isnan(coco.overall.ap50) else f"mean AP50 {coco.overall.ap50:.3f}"
        rows = {
            name: np.concatenate([getattr(curves, name)[chosen], getattr(overall, name)])
            for name in ("precision", "recall", "f1")
        }
        return NamedCurves(
            shown_names([self.name(curves.labels[index]) for index in chosen]),
            [precisions.get(curves.labels[index], "") or _best_of(best[index], scores[index]) for index in chosen],
            THRESHOLDS,
            **rows,
            note=whole or _best_of(*(float(one[0]) for one in overall.best)),
        )

    def _table(
        self,
        by_label: dict[int, BoxScores],
        whole: BoxScores,
        curves: Curves,
        overall: Curves,
        coco: CocoPrecision | None,
    ) -> str:
        best = {label: pair for label, *pair in zip(curves.labels, *curves.best, strict=True)}
        none = BoxScores(0, 0, 0)
        labels = sorted(best, key=lambda label: (by_label.get(label, none).f1 or 0.0, label))
        rows = [
            [self.name(label), *_numbers(by_label.get(label, none), best[label]), *_precisions(coco, label)]
            for label in labels
        ]
        total = ["all boxes", *_numbers(whole, [float(one[0]) for one in overall.best]), *_precisions(coco, None)]
        return markdown_table((*_HEADER, *(_PRECISIONS if coco is not None else ())), [*rows, total])


def _numbers(scores: BoxScores, best: Sequence[float]) -> list[str]:
    shares = scores.precision, scores.recall, scores.f1, best[0]
    threshold = "-" if math.isnan(best[1]) else f"{best[1]:.3f}"
    return [str(scores.true), str(scores.predicted), *map(_share, shares), threshold]


def _precisions(coco: CocoPrecision | None, label: int | None) -> list[str]:
    """Return the average precision of a label, or of None as means over labels; "-" where there is no such box."""
    if coco is None:
        return []
    figures: Figures | None = coco.overall if label is None else coco.by_label.get(label)
    if figures is None:
        return ["-"] * len(_PRECISIONS)
    return [_share(value) for value in (figures.map, figures.ap50, *figures.by_size.values())]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _best(overall: Curves) -> str:
    best, threshold = (float(one[0]) for one in overall.best)
    return "nothing is hit" if math.isnan(best) else f"best F1 {best:.3f} from score {threshold:.3f}"


def _best_of(best: float, threshold: float) -> str:
    return "no hit" if math.isnan(best) else f"F1 {best:.3f} from {threshold:.3f}"
