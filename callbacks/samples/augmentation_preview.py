"""AugmentationPreview: the first training samples as the model sees them, with checks of normalization and order."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor
from torch.utils.data import SequentialSampler

from ..base.detections import without_masks
from ..base.diagnostic import Diagnostic
from ..base.image_checks import check_images
from ..drawings.canvas.images import Channels
from ..drawings.canvas.picture_style import PictureStyle
from ..drawings.samples import draw_samples
from ..drawings.tasks.find_task import TASKS
from ..errors import UsageError, at_least_one, described, unknown_name
from ..keys import IMAGE_KEY, SAMPLE_ID_KEY, TARGET_KEY, pick
from ..measures.augmentation_preview import LabelOrder, Range, extremes, extremes_of, range_of_extremes
from ..measures.reduced_image import is_reduced, reduced, sizes
from ..support.class_names import check_names
from ..support.host_copy import HostCopy, copy_tree, read_tree
from ..support.runner_view import batch_size, positions_in_loader
from ..tensorboard.writer import Writer

_FINDINGS = {
    "sorted": "over its first {batches} batches the labels never go down, through {classes} classes",
    "one class per batch": "each of its first {batches} batches holds one class only, of {classes} in all",
}

_log = logging.getLogger("assay")


class AugmentationPreview(Diagnostic):
    """Shows the first training samples as the model will see them, and warns about their normalization and order.

    ================================= ===== ================================================================
    tag, in the train loader's folder kind  step and content
    ================================= ===== ================================================================
    ``8_data/augmentations``          image 1; the first ``k_images`` samples of epoch 1, with their targets
    ================================= ===== ================================================================

    The samples come from the first batches of the run itself, before the model gets them, so that neither their order
    nor random numbers change. The picture is drawn as soon as there are enough samples, with a large batch before the
    first step. A run that is resumed after its first epoch draws none. On several ranks, the samples are those of the
    main process.

    Warnings (logger ``assay``):

    - Without their normalization, more than 0.1% of the values of the images lie outside 0 to 1 by more than 0.02:
      ``mean`` or ``std`` is not that of the data.
    - ``mean`` is given, and the images fill 0 to 1 as they are: they were not normalized.
    - Labels (integers, one per sample) come sorted, or in batches of one class each, as they come from a loader that
      shuffles less than once in a million runs.

    Nothing is read from the device within a step: labels are copied without blocking and read one step later, and only
    until it is clear that they are shuffled. Memory: ``k_images`` samples.

    Args:
        k_images: how many samples are shown.
        task: ``multiclass``, ``binary``, ``multilabel``, ``detection`` or ``regression``; None: found from the targets:
            a float is a number, and [C] of 0 and 1 are labels.
        image_key: key of the images in the batch: [N, C, H, W] or [N, H, W], or N images of several sizes, of any
            number of channels: normalized floats, or integers (see ``drawings.canvas.images.to_rgb``).
        target_key: key of the targets in the batch: classes, labels, masks or boxes (see ``draw_samples``). It may be
            missing.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        class_names: one name per class; None: classes are shown by number.
        ignore_index: target value that does not count.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at the first batch, when a key is missing or the images cannot be
            drawn; at the start of the run, when there is no TensorBoard logger.
    """

    observed = ("taken_", "order_", "labels_")

    def __init__(
        self,
        k_images: int = 12,
        *,
        task: str | None = None,
        image_key: str = IMAGE_KEY,
        target_key: str = TARGET_KEY,
        sample_id_key: str = SAMPLE_ID_KEY,
        class_names: Sequence[str] | None = None,
        ignore_index: int | None = None,
        mean: Channels = 0.0,
        std: Channels = 1.0,
        prefix: str = "",
    ):
        super().__init__(prefix=prefix)
        self.k_images = at_least_one("k_images", k_images)
        self.image_key, self.target_key, self.sample_id_key = image_key, target_key, sample_id_key
        if task is not None and task not in TASKS:
            raise unknown_name("task", task, TASKS)
        self.style: PictureStyle = PictureStyle(check_names(class_names), mean, std, ignore_index)
        self.draw = partial(draw_samples, style=self.style, task=task)
        self.taken_: list[Mapping[str, Any]] | None = None
        self.order_: LabelOrder | None = None
        self.labels_: HostCopy | None = None  # of the last batch, read one step later

    def tags(self, loader_key: str) -> tuple[str, ...]:
        # Catalyst trains on every loader whose name starts with "train".
        return ("8_data/augmentations",) if loader_key.startswith("train") else ()

    def begin(self, runner: dl.IRunner) -> None:
        self.taken_, self.order_, self.labels_ = None, None, None
        if runner.is_train_loader and runner.epoch_step == 1:
            self.taken_, self.order_ = [], LabelOrder()

    def on_batch_start(self, runner: dl.IRunner) -> None:
        """Keep the samples of the batch, and copy its labels, before the model gets it."""
        if self.is_mute_:
            return
        if self.order_ is not None and not isinstance(runner.batch, Mapping):
            raise UsageError(
                f"AugmentationPreview looks at the batch as the loader gives it, and needs a dict, got a "
                f"{described(runner.batch)}: have the data set return {{{self.image_key!r}: ..., {self.target_key!r}: "
                "...}, or leave the callback out."
            )
        if self.taken_ is not None:
            self.taken_.append(copy_tree(self._take(runner, self.k_images - self._count_taken())))
            if self._count_taken() == self.k_images:
                self._write_picture(runner, self.writers_[runner.loader_key])
        if self.order_ is not None:
            self._read_labels(runner)
            self._copy_labels(runner.batch.get(self.target_key), batch_size(runner))

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing: a batch is observed at its start, before the model gets it."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        # A loader may hold fewer samples than the picture has room for.
        if self._count_taken():
            self._write_picture(runner, writer)
        self._read_labels(runner)
        self.taken_, self.order_ = None, None

    def _count_taken(self) -> int:
        return sum(len(part["sample_id"]) for part in self.taken_ or ())

    def _take(self, runner: dl.IRunner, count: int) -> dict[str, Any]:
        """Return images, ids and, if there is one per sample, targets of the first samples of a batch."""
        batch = runner.batch
        images = check_images(self.image_key, pick(batch, self.image_key, type(self).__name__), self.style)
        positions = positions_in_loader(runner, len(images))
        parts = {"image": images, "sample_id": batch.get(self.sample_id_key, positions)}
        targets = batch.get(self.target_key)
        if isinstance(targets, Tensor | list | tuple) and len(targets) == len(images):
            parts["target"] = without_masks(targets)
        return self._as_drawn({name: part[:count] for name, part in parts.items()})

    def _as_drawn(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Reduce large images to the size of a picture, after a look at their range."""
        # The range of small images is found later, in the thread that draws: they are kept whole.
        images = parts["image"]
        seen = [extremes(image, *self._normalization()) if _needs_range_now(image) else None for image in images]
        return {**parts, "image": reduced(images), "image_size": sizes(images), "extremes": seen}

    def _normalization(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.style.mean, np.float64), np.asarray(self.style.std, np.float64)

    def _write_picture(self, runner: dl.IRunner, writer: Writer) -> None:
        taken, self.taken_ = self.taken_ or [], None
        place = self.place(runner.loader_key)
        title = [f"{place} samples as the model sees them", f"epoch {runner.epoch_step}, augmented"]
        # The range of the values is found in the thread too, as it is a part of the title.
        draw = partial(self._draw, taken, title, runner.loader_key)
        writer.image(self.full_tag("8_data/augmentations"), draw, 1, once=True)

    def _draw(self, taken: Sequence[Mapping[str, Any]], title: list[str], loader: str) -> np.ndarray:
        host = [_with_defaults(read_tree(part)) for part in taken]
        samples = {name: [value for part in host for value in part[name]] for name in host[0]}
        found = self._range(samples["image"], samples.pop("extremes"))
        if found is not None:
            title = [title[0], f"{title[1]}, range {found.low:z.2f} to {found.high:.2f}"]
            self._warn_of_range(loader, found)
        picture: np.ndarray = self.draw(samples, title)
        return picture

    def _range(self, images: Sequence[np.ndarray], seen: Sequence[np.ndarray | None]) -> Range | None:
        mean, std = self._normalization()
        known = [of_one for of_one in seen if of_one is not None]
        small = [image for image, of_one in zip(images, seen, strict=True) if of_one is None]
        return range_of_extremes([*known, *extremes_of(small, mean, std)], mean, std)

    def _warn_of_range(self, loader: str, found: Range) -> None:
        given = f"mean={self.style.mean!r}, std={self.style.std!r}"
        # Logged directly: this is the thread of the writer already.
        if found.leaves:
            _log.warning(
                "images of %s leave 0 to 1 with %s: they range from %.2f to %.2f, %.1f%% of the values outside; "
                "mean and std must be those of the data's normalization",
                loader, given, found.low, found.high, 100 * found.outside,
            )  # fmt: skip
        elif found.not_normalized and np.any(np.asarray(self.style.mean) != 0):
            _log.warning(
                "images of %s look as if they were not normalized: they range from %.2f to %.2f as the model sees "
                "them, with %s; normalize them by it, or leave mean and std out",
                loader, *found.raw, given,
            )  # fmt: skip

    def _copy_labels(self, targets: Any, count: int) -> None:
        """Start copying the labels of a batch; end the watch if they are not one integer per sample."""
        whole = isinstance(targets, Tensor) and not targets.is_floating_point() and not targets.is_complex()
        if not whole or targets.dtype == torch.bool or targets.numel() != count:
            self.order_ = None
        elif self.order_ is not None:
            self.labels_ = HostCopy(targets.reshape(-1))

    def _read_labels(self, runner: dl.IRunner) -> None:
        """Look at the labels of the last step, which have reached the host by now."""
        labels, self.labels_ = self.labels_, None
        if self.order_ is None or labels is None:
            return
        self.order_.update(labels.read().tolist())
        if self.order_.open:
            return
        if (finding := self.order_.finding()) is not None:
            reason = _FINDINGS[finding].format(batches=self.order_.batches, classes=len(self.order_.classes))
            cause = "; its sampler is a SequentialSampler" if _is_sequential(runner.loader) else ""
            message = f"{runner.loader_key} seems not to be shuffled{cause}: {reason}; pass the loader shuffle=True"
            self.writers_[runner.loader_key].warn(message)
        self.order_ = None


def _with_defaults(part: Mapping[str, Any]) -> dict[str, Any]:
    # Checkpoints of former versions hold neither: their images are whole.
    return {"image_size": sizes(part["image"]), "extremes": [None] * len(part["image"]), **part}


def _needs_range_now(image: Tensor) -> bool:
    return image.is_floating_point() and is_reduced(image)


def _is_sequential(loader: Any) -> bool:
    """Whether a loader returns its data in order."""
    # accelerate wraps the batch sampler of a shuffled or sharded loader, maybe several times.
    batches: Any = getattr(loader, "batch_sampler", None)
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    return isinstance(getattr(batches, "sampler", None), SequentialSampler)
