"""DataOverview: labels by class, and sizes of images and boxes, as the first epoch gives them."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from catalyst import dl
from torch import Tensor

from ..base.diagnostic import Diagnostic
from ..base.dict_batch import dict_batch
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.data_statistics import draw_data_statistics
from ..errors import unknown_name
from ..keys import IMAGE_KEY, TARGET_KEY
from ..measures.data_statistics import DataStatistics
from ..metrics.batch_metrics import TASKS
from ..support.class_names import check_names
from ..support.distributed import gather_objects
from ..support.runner_view import host_targets
from ..tensorboard.writer import Writer


class DataOverview(Diagnostic):
    """Counts in the first epoch what each loader gives: labels by class, sizes of images, boxes per image, their sizes.

    ============================ ======= ===================================================================
    tag, in the loader's folder  kind    step and content
    ============================ ======= ===================================================================
    ``8_data/statistics``        image   epoch 1; one sheet, [H, W, 3] uint8 RGB
    ============================ ======= ===================================================================

    Images are counted as the model sees them, augmented. Of masks a part of the pixels is looked at. The device is
    neither read nor used: targets are looked at where the loader has left them on the host, which a stock runner does
    only on a CPU; on a GPU it has sizes of images alone.

    Args:
        image_key: key of the images in the batch; where it is missing, nothing is said of sizes.
        target_key: key of the targets in the batch: class numbers [N] or [N, H, W], 0 and 1 [N, C] or [N, C, H, W], or
            N dicts of ``boxes`` and ``labels``. Soft ones, as of Mixup, count as ``task`` says.
        task: ``multiclass`` (the largest share), ``binary`` or ``multilabel`` (yes above 0.5); None: soft targets count
            as classes where those of a sample add up to 1, and are left out otherwise.
        class_names: one name per class; None: classes are shown by number.
        ignore_index: target value that does not count.
        prefix: added to the tag, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the start of the run, when the runner has no TensorBoard logger; at
            the first batch, when it is no dict.
    """

    def __init__(
        self,
        *,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        if task is not None and task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.task = task
        self.image_key, self.target_key, self.ignore_index = image_key, target_key, ignore_index
        self.names = PictureStyle(check_names(class_names))
        self.measure_: DataStatistics | None = None

    def tags(self, loader_key: str) -> tuple[str, ...]:
        return ("8_data/statistics",)

    def begin(self, runner: dl.IRunner) -> None:
        self.measure_ = DataStatistics() if runner.epoch_step == 1 else None

    def observe(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        batch = dict_batch(runner, type(self).__name__)
        target = host_targets(runner).arrays(self.target_key)
        self.measure_.update(_shapes(batch.get(self.image_key)), target, self.ignore_index, self.task)

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.measure_ is None:
            return
        first, *others = gather_objects(self.measure_)
        for other in others:
            first.merge(other)
        self.measure_ = None
        if first.samples or first.unit:
            title = [f"data of {self.place(runner.loader_key)}, epoch {runner.epoch_step}"]
            draw = partial(draw_data_statistics, first, title, self.names)
            writer.image(self.full_tag("8_data/statistics"), draw, runner.epoch_step, once=True)


def _shapes(images: Any) -> list[tuple[int, int]]:
    """Return height and width of each image of a batch; nothing where these are no images."""
    if isinstance(images, Tensor):  # asked of the whole: a row of a tensor costs an operator
        return [(images.shape[-2], images.shape[-1])] * len(images) if images.ndim > 2 else []
    known = isinstance(images, list | tuple) and all(np.ndim(image) >= 2 for image in images)
    return [(image.shape[-2], image.shape[-1]) for image in images] if known else []
