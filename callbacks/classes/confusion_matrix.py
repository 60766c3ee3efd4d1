"""What is taken for what: the confusion matrix of every epoch."""

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

_MOST_PAIRS = 20
_MOST_SIDE = 2000  # classes that a picture has a row of pixels for
_HEADER = ("true", "predicted", "count", "share of true")


class ConfusionMatrix(ClassCounts):
    """Shows every epoch, for each loader, how often each true class was predicted as each class.

    Loaders for inference are left out. All samples of the epoch count, over all ranks; of masks, all pixels.

    ========================= ======= ===========================================================
    tag, in the loader's folder kind  step and content
    ========================= ======= ===========================================================
    ``confusion_matrix``      image   epoch; [H, W, 3] uint8 RGB. Few classes: count and share in
                                      each cell; many: colours alone; above 2,000: a cell for
                                      several classes together. Labels: a row each
    ``most_confused``         text    epoch; Markdown table of the 20 largest confusions: true,
                                      predicted, count, share of the true class in percent
    ========================= ======= ===========================================================

    Args:
        normalize: what the shares are of: ``true`` (all samples of the true class), ``pred`` (of the predicted one),
            ``all`` (all samples) or ``none`` (counts alone). Those of labels are of no and yes of the same label, or
            ``none``.
        task: ``multiclass`` (output [N, C, ...], the largest wins, so a pixel counts as a sample), ``binary`` (output
            [N, ...] or [N, 1, ...], positive means class 1) or ``multilabel`` (output [N, C, ...], positive means yes).
        num_classes: C; ``class_names`` may stand in for it. Not needed for ``binary``.
        class_names: one a class or label; without, they are shown by number.
        ignore_index: target value that is left out.
        output_key: of the batch; logits.
        target_key: of the batch; class numbers [N, ...], or 0 and 1 in the output's shape.
        prefix: stands before the tags, ``PREFIX/TAG``, for a second callback of this kind in the run.

    Raises:
        UsageError: an argument is out of range; at a batch, when a key is missing or a shape does not fit; at the end
            of a loader, when a target was no class; at the start of the run, when there is no TensorBoard logger.
    """

    own_tags = ("confusion_matrix", "most_confused")

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
            # The counts of 10,000 classes are 800 MB: what waits to be drawn must not hold them.
            shown = Cells.of(counts)
            draw = partial(self._draw_blocks, shown, title)
        writer.image(self.named("confusion_matrix"), draw, runner.epoch_step)
        writer.text(self.named("most_confused"), partial(self._most_confused, shown), runner.epoch_step)

    def _draw_blocks(self, cells: Cells, title: list[str]) -> np.ndarray:
        every = -(-self.num_classes // _MOST_SIDE)
        names = self.class_names[::every]
        title = [*title, f"each cell is {every} x {every} classes"]
        return draw_confusion_matrix(cells.blocks(every).numpy(), names, title, normalize=self.normalize, every=every)

    def _summary(self, counts: Tensor) -> str:
        total, right = int(total_of(counts)), int(counts.diagonal(dim1=1, dim2=2).sum())
        unit = "decisions" if self.task == "multilabel" else "samples"
        return f"{total:,} {unit}, {right / total:.2%} right" if total else "no sample"

    def _most_confused(self, counts: Tensor | Cells) -> str:
        cells = counts if isinstance(counts, Cells) else Cells.of(counts)
        confusions = most_confused(cells, _MOST_PAIRS)
        if not confusions:
            return "Nothing was confused." if len(cells.places) else "There was no sample."
        rows = [
            (self._name(it.group, it.true), self._name(it.group, it.predicted), str(it.count), f"{it.share:.2%}")
            for it in confusions
        ]
        return markdown_table(_HEADER, rows)

    def _name(self, group: int, number: int) -> str:
        if self.task == "multilabel":
            return f"{self.class_names[group]}: {'yes' if number else 'no'}"
        return self.class_names[number]
