"""ConfusionMatrix: which classes are confused, as a picture and a table per epoch."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from catalyst import dl
from torch import Tensor

from ..drawings.confusion_matrix import NORMALIZATIONS, draw_confusion_matrix, draw_label_matrix
from ..errors import unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.confusion_matrix import Cells, most_confused
from ..measures.confusion_matrix import total as total_of
from ..support.tables import markdown_table
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts

_MOST_PAIRS = 20  # rows of the table
# Classes along a side of the counts that wait to be drawn, 32 MB.
_MOST_SIDE = 2000
_HEADER = ("true", "predicted", "count", "share of true")


class ConfusionMatrix(ClassCounts):
    """Shows every epoch, for each loader, how often each true class was predicted as each class.

    All samples of the epoch count, over all ranks; for masks, all pixels. Inference loaders are skipped.

    ==================================== ===== =========================================================================
    tag, in the loader's folder          kind  step and content
    ==================================== ===== =========================================================================
    ``2_confusion_matrix``               image epoch; [H, W, 3] uint8 RGB, right predictions in blue, errors in orange.
                                               Up to 12 classes the share is in each cell; of more than 430 several are
                                               one cell. At the margins recall, precision and totals. Labels: one row
                                               each
    ``2_confusion_matrix/most_confused`` text  epoch; Markdown table of the 20 largest confusions: true, predicted,
                                               count, share of the true class in percent
    ==================================== ===== =========================================================================

    Args:
        normalize: what the shares refer to: ``true`` (all samples of the true class), ``pred`` (all samples of the
            predicted class), ``all`` (all samples) or ``none`` (only counts are shown). For ``multilabel`` it is
            ``true`` or ``none``, within each label.
        task: ``multiclass`` (output [N, C, ...]: the largest logit wins, and every pixel of a mask is a sample),
            ``binary`` (output [N, ...] or [N, 1, ...]: a positive logit means class 1) or ``multilabel`` (output
            [N, C, ...]: a positive logit means yes).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, ...], or 0 and 1 in the shape of the output.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no TensorBoard logger; at a batch, a
            key is missing, a shape does not fit, or a target on the host is no class; at the end of a loader, any other
            target was no class.
    """

    own_tags = ("2_confusion_matrix", "2_confusion_matrix/most_confused")

    def __init__(
        self,
        *,
        normalize: str = "true",
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
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
        # The picture shows each label's no and yes as a row of its own, and its shares are of that row's truth.
        known = ("true", "none") if self.task == "multilabel" else NORMALIZATIONS
        if normalize not in known:
            raise unknown_name("normalize", normalize, known, note=f" for the task {self.task!r}")
        self.normalize = normalize

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        title = [f"{self.place(runner.loader_key)} confusion matrix, epoch {runner.epoch_step}", self._summary(counts)]
        shown: Tensor | Cells = counts
        if self.task == "multilabel":
            draw = partial(draw_label_matrix, counts.numpy(), self.class_names, title, normalize=self.normalize)
        elif self.num_classes <= _MOST_SIDE:
            draw = partial(draw_confusion_matrix, counts[0].numpy(), self.class_names, title, normalize=self.normalize)
        else:
            # The counts of 10,000 classes take 800 MB, so only the cells that are not 0 wait to be drawn.
            shown = Cells.of(counts)
            draw = partial(self._draw_blocks, shown, title)
        writer.image(self.full_tag("2_confusion_matrix"), draw, runner.epoch_step)
        writer.text(
            self.full_tag("2_confusion_matrix/most_confused"), partial(self._most_confused, shown), runner.epoch_step
        )

    def _draw_blocks(self, cells: Cells, title: list[str]) -> np.ndarray:
        every = -(-self.num_classes // _MOST_SIDE)  # rounded up
        return draw_confusion_matrix(
            cells.blocks(every).numpy(),
            self.class_names[::every],
            title,
            normalize=self.normalize,
            every=every,
            hits=cells.block_hits(every).numpy(),
        )

    def _summary(self, counts: Tensor) -> str:
        total, right = int(total_of(counts)), int(counts.diagonal(dim1=1, dim2=2).sum())
        return f"{total:,} {self.unit_of_predictions}, {right / total:.2%} right" if total else f"no {self.unit[:-1]}"

    def _most_confused(self, counts: Tensor | Cells) -> str:
        cells = counts if isinstance(counts, Cells) else Cells.of(counts)
        confusions = most_confused(cells, _MOST_PAIRS)
        if not confusions:
            return "Nothing was confused." if len(cells.places) else f"There was no {self.unit[:-1]}."
        rows = [
            (self._name(it.group, it.true), self._name(it.group, it.predicted), str(it.count), f"{it.share:.2%}")
            for it in confusions
        ]
        return markdown_table(_HEADER, rows)

    def _name(self, group: int, number: int) -> str:
        if self.task == "multilabel":
            return f"{self.class_names[group]}: {'yes' if number else 'no'}"
        return self.class_names[number]
