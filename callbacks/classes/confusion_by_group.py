"""ConfusionByGroup: confusion matrices of groups of samples, such as cameras, as one picture per epoch."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from catalyst import dl
from torch import Tensor

from ..base.dict_batch import pick_tensor
from ..drawings.confusion_matrix import draw_confusion_by_group
from ..errors import UsageError
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.confusion_by_group import ConfusionByGroup as Counts
from ..support.class_names import check_names
from ..tensorboard.writer import Writer
from .class_counts import ClassCounts


class ConfusionByGroup(ClassCounts):
    """Shows every epoch, for each loader and group of samples, how often each true class was predicted as each class.

    Each sample belongs to a group by a number in the batch: its camera, its city, its quality. All samples of the epoch
    count, over all ranks; for masks, all pixels. Inference loaders are skipped.

    =================================== ===== ==========================================================================
    tag, in the loader's folder         kind  step and content
    =================================== ===== ==========================================================================
    ``2_confusion_matrix/by_GROUP_KEY`` image epoch; [H, W, 3] uint8 RGB: a row per group and true class, a column per
                                              predicted class, with counts and shares of the row
    =================================== ===== ==========================================================================

    Args:
        group_key: key in the batch of the number of each sample's group, [N].
        group_names: one name per group.
        num_classes: C, the number of classes. Not needed with ``class_names``.
        class_names: one name per class; None: they are shown by number.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch, [N, C, ...]; the largest wins.
        target_key: key of the class numbers in the batch, [N, ...].
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: as for ``ConfusionMatrix``; ``group_names`` is empty; at the end of a loader, a sample was in no
            group.
    """

    def __init__(
        self,
        group_key: str,
        group_names: Sequence[str],
        *,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        prefix: str = "",
    ):
        super().__init__(
            num_classes=num_classes,
            class_names=class_names,
            ignore_index=ignore_index,
            output_key=output_key,
            target_key=target_key,
            prefix=prefix,
        )
        if not group_names:
            raise UsageError("group_names must name at least one group, got none.")
        self.group_key = group_key
        self.group_names = check_names(group_names, "group_names")

    def make_measure(self, device: torch.device) -> Counts:
        """Return a fresh measure. Its state holds ``counts`` [G, C, C], ``outside`` and ``ungrouped``."""
        return Counts(len(self.group_names), self.num_classes, self.ignore_index, device)

    def take(self, runner: dl.IRunner) -> tuple[Tensor, ...]:
        """Return output, target and group numbers of a batch."""
        output, target = super().take(runner)
        groups = pick_tensor(runner, self.group_key, type(self).__name__)
        # One number per sample also for masks: the measure gives it to all pixels of the sample.
        if groups.shape != target.shape[:1]:
            raise UsageError(
                f"{type(self).__name__} needs one number per sample in {self.group_key!r}, [{len(target)}], "
                f"got {tuple(groups.shape)}."
            )
        return output, target, groups

    def check(self, runner: dl.IRunner, writer: Writer, state: Mapping[str, Tensor]) -> None:
        """Raise if a target was no class or a sample in no group, over all ranks."""
        super().check(runner, writer, state)
        # Only known here: reading the groups of a batch would make the host wait for the device.
        if ungrouped := int(state["ungrouped"]):
            raise UsageError(
                f"{type(self).__name__} needs numbers from 0 to {len(self.group_names) - 1} in {self.group_key!r}, got "
                f"{ungrouped} others."
            )

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return (f"2_confusion_matrix/by_{self.group_key}",)

    def write(self, runner: dl.IRunner, writer: Writer, counts: Tensor) -> None:
        head = f"{self.place(runner.loader_key)} confusion matrix by {self.group_key}, epoch {runner.epoch_step}"
        names = self.class_names, self.group_names
        draw = partial(draw_confusion_by_group, counts.numpy(), *names, [head, self._shares(counts)])
        writer.image(self.full_tag(f"2_confusion_matrix/by_{self.group_key}"), draw, runner.epoch_step)

    def _shares(self, counts: Tensor) -> str:
        """Return the share of right samples, or pixels, of each group that has any."""
        right, total = counts.diagonal(dim1=1, dim2=2).sum(dim=1).tolist(), counts.sum(dim=(1, 2)).tolist()
        found = zip(self.group_names, right, total, strict=True)
        return f"right {self.unit}: " + ", ".join(f"{name} {hits / count:.0%}" for name, hits, count in found if count)
