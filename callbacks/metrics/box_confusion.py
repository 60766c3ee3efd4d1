"""BoxConfusion: which labels a detector takes for which, and for the background, as a picture and a table per epoch."""

from functools import partial

import numpy as np
import torch
from catalyst import dl

from ..drawings.confusion_matrix import draw_confusion_matrix
from ..measures.box_counts import BoxCounts as Counts
from ..measures.box_counts import box_scores, pair_matrix
from ..measures.confusion_matrix import Cells, most_confused
from ..support.tables import markdown_table
from ..tensorboard.writer import Writer
from .box_counts import BoxCounts

_MOST_PAIRS = 20  # rows of the table
_BACKGROUND = "background"
_HEADER = ("true", "predicted", "boxes", "share of true")


class BoxConfusion(BoxCounts):
    """Shows every epoch, for each loader, as what each true box was found, and what was found where there is none.

    Predictions from ``min_score`` on are matched with true boxes of their label, at an IoU of ``min_iou`` or more, each
    in the order of the scores, as COCO does; these are right. What is left on both sides is matched once more,
    whatever the labels: these are confusions. A true box without a prediction is missed: its column is the
    background. A prediction without a true box is false: its row is the background; within a crowd of its label it is
    left out. All boxes of the epoch count, over all ranks; labels without any are not shown.

    ======================================= ===== ============================================================
    tag, in the loader's folder             kind  step and content
    ======================================= ===== ============================================================
    ``2_confusion_matrix``                  image epoch; [H, W, 3] uint8 RGB; see ``ConfusionMatrix``
    ``2_confusion_matrix/most_confused``    text  epoch; Markdown table of the 20 largest confusions and misses
    ======================================= ===== ============================================================

    Args:
        options: those of ``BoxCounts``, which names its errors too.
    """

    own_tags = ("2_confusion_matrix", "2_confusion_matrix/most_confused")

    def write(self, runner: dl.IRunner, writer: Writer, counts: Counts) -> None:
        labels, matrix = pair_matrix(counts)
        names = [*map(self.name, labels), _BACKGROUND]
        _, whole = box_scores(counts)
        title = [
            f"{self.place(runner.loader_key)} boxes, epoch {runner.epoch_step}",
            f"{whole.true:,} true, {whole.hits:,} hit, {whole.predicted - whole.hits:,} false, score from "
            f"{self.min_score:g}",
        ]
        draw = partial(draw_confusion_matrix, matrix, names, title, background=True)
        writer.image(self.full_tag(self.own_tags[0]), draw, runner.epoch_step)
        writer.text(self.full_tag(self.own_tags[1]), partial(_most_confused, matrix, names), runner.epoch_step)


def _most_confused(matrix: np.ndarray, names: list[str]) -> str:
    confusions = most_confused(Cells.of(torch.from_numpy(matrix)[None]), _MOST_PAIRS)
    if not confusions:
        return "Nothing was confused." if matrix.any() else "There was no box."
    rows = [
        (names[it.true], names[it.predicted], str(it.count), "" if it.true == len(names) - 1 else f"{it.share:.2%}")
        for it in confusions
    ]
    return markdown_table(_HEADER, rows)
