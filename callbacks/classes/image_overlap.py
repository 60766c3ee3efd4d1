"""ImageOverlap: IoU, Dice and boundary IoU of each image, averaged over images, and of each class."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from catalyst import dl
from torch import Tensor

from ..base.class_shapes import check_shapes
from ..base.class_targets import ClassTargets
from ..base.dict_batch import pick_tensor
from ..base.naming import Named
from ..base.order import METRICS
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.image_overlap import BOUNDARY_IOU, OVERLAPS, WITHOUT_TRUTH, image_means, pooled_overlaps
from ..measures.image_overlap import ImageOverlap as Measure
from ..measures.measure import reduce_measure
from ..measures.targets import decide_targets
from ..metrics.batch_metrics import TASKS, predicted_classes
from ..support.checkpoint_values import from_plain, to_plain
from ..support.class_names import check_names
from .class_counts import count_classes

_KNOWN = (*OVERLAPS, BOUNDARY_IOU)


class ImageOverlap(Named):
    """Computes IoU, Dice and boundary IoU of each image, and their means over the images of each loader.

    ``Metrics("iou")`` counts the pixels of all images together, so that large regions dominate. ``METRIC_per_image``
    gives every image the same weight, as pytorch-toolbelt's ``IoUMetricsCallback``: the value of an image is the mean
    over the classes that have a value in it. The boundary IoU compares only what is at most 2% of the image's diagonal
    from a region's border, where large regions differ (B. Cheng et al., "Boundary IoU: Improving Object-Centric Image
    Segmentation Evaluation", CVPR 2021; see ``measures.boundaries``).

    =========================== ==================================================================================
    written to                  content, 0 to 1
    =========================== ==================================================================================
    ``runner.loader_metrics``   ``METRIC_per_image``, as ``iou_per_image``: mean over images of an image's own value
    ``runner.loader_metrics``   ``METRIC_per_image/CLASS``: mean over the images that have a value of the class;
                                not for ``binary``
    ``runner.loader_metrics``   ``iou/CLASS``: of all pixels together, of each class that is true or predicted; not
                                for ``binary``
    ``runner.loader_metrics``   ``boundary_iou``, ``boundary_iou/CLASS``: the same near borders, and its mean over
                                classes
    ``runner.batch_metrics``    ``METRIC_per_image``: of the batch, a tensor on the device
    =========================== ==================================================================================

    A value is NaN if no image has one. All values cover the images of all ranks. Nothing is read from the device within
    a step, and memory does not grow with the number of images. Inference loaders are skipped.

    Args:
        metrics: of ``iou``, ``dice`` and ``boundary_iou`` one or several.
        task: ``multiclass`` (output [N, C, H, W]: the largest logit wins), ``binary`` (output [N, H, W] or
            [N, 1, H, W]: a positive logit means class 1, the only class that counts) or ``multilabel`` (output
            [N, C, H, W]: a positive logit means yes).
        num_classes: C, the number of classes or labels. Not needed with ``class_names``, nor for ``binary``.
        class_names: one name per class or label; None: they are shown by number.
        classes: the classes that count, by name or number, for example all but the background; None: all. Not for
            ``binary``.
        without_truth: the value of a class in an image without a true pixel of it. ``skip``: none, so that false alarms
            in the image cost nothing; ``match``: 1 if no pixel of it is predicted either, 0 if one is.
        ignore_index: target value to leave out; None: every target counts.
        output_key: key of the logits in the batch.
        target_key: key of the targets in the batch: class numbers [N, H, W], or 0 and 1 in the shape of the output.
        prefix: added in front of the names, as ``PREFIX/iou_per_image``; a second callback of this kind needs one.

    Raises:
        UsageError: an argument is out of range; at a batch, a key is missing, a shape does not fit, or a target on the
            host is no class; at the end of a loader, any other target was no class.
    """

    minor_metrics = ("iou_per_image", "dice_per_image", "boundary_iou")

    def __init__(
        self,
        metrics: str | Sequence[str] = OVERLAPS,
        *,
        task: str = "multiclass",
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        classes: Sequence[str | int] | None = None,
        without_truth: str = "skip",
        ignore_index: int | None = None,
        output_key: str = OUTPUT_KEY,
        target_key: str = TARGET_KEY,
        prefix: str = "",
    ):
        super().__init__(METRICS, prefix)
        self.metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        for kind, known, given in (("metric", _KNOWN, self.metrics), ("task", TASKS, [task])):
            for name in given:
                if name not in known:
                    raise unknown_name(kind, name, known)
        if without_truth not in WITHOUT_TRUTH:
            raise unknown_name("without_truth", without_truth, WITHOUT_TRUTH)
        self.task, self.without_truth, self.ignore_index = task, without_truth, ignore_index
        self.num_classes = count_classes(task, num_classes, class_names)
        self.class_names = check_names(class_names) or [str(number) for number in range(self.num_classes)]
        self.classes = _class_numbers(task, classes, self.class_names)
        self.output_key, self.target_key = output_key, target_key
        self.targets = ClassTargets(type(self).__name__, task, self.num_classes, ignore_index, target_key)
        self.measure_: Measure | None = None
        self.has_pixels_ = True  # a checkpoint within an epoch of a former version has none

    def metrics_written(self, loader_key: str) -> list[str]:
        pooled = [BOUNDARY_IOU] if BOUNDARY_IOU in self.metrics else []
        return [*(_name_of(metric) for metric in self.metrics), *pooled]

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.measure_, self.has_pixels_ = None, True
        if not runner.is_infer_loader:
            self.measure_ = Measure(
                self.task,
                self.num_classes,
                self.classes,
                self.ignore_index,
                self.without_truth,
                runner.engine.device,
                boundary=BOUNDARY_IOU in self.metrics,
            )

    def on_batch_end(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        name, keys = type(self).__name__, (self.output_key, self.target_key)
        output, target = (pick_tensor(runner, key, name).detach() for key in keys)
        check_shapes(name, self.task, self.num_classes, (keys[0], output.shape), (keys[1], target.shape))
        self.targets.check(runner, output.shape)
        target = decide_targets(target, output.shape, self.task, self.ignore_index)
        means = self.measure_.update(predicted_classes(output, self.task), target)
        # The last column is the mean over classes. It stays a tensor on the device: reading it would stop the step.
        values = {_name_of(metric): means[_KNOWN.index(metric), -1] for metric in self.metrics}
        self.write_metrics(runner, runner.batch_metrics, values)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        state = reduce_measure(self.measure_)
        self.measure_ = None
        # Reduced over ranks before, so that all ranks raise together.
        if outside := int(state["outside"]):
            raise self.targets.error(runner.loader_key, outside)
        means = image_means(state).tolist()
        for metric in self.metrics:
            *by_class, own = means[_KNOWN.index(metric)]
            self.write_metrics(runner, runner.loader_metrics, self._by_name(_name_of(metric), own, by_class))
        if self.has_pixels_:
            self._write_pooled(runner, pooled_overlaps(state))

    def _write_pooled(self, runner: dl.IRunner, pooled: Tensor) -> None:
        """Write the IoU of all pixels together, of each class, and that of boundaries also as a mean."""
        for metric, row in zip(("iou", BOUNDARY_IOU), pooled, strict=False):
            if metric in self.metrics:
                values = self._by_name(metric, float(row.nanmean()), row.tolist())
                kept = {name: value for name, value in values.items() if name == metric or not math.isnan(value)}
                # The mean of ``iou`` is a metric by name of ``Metrics``.
                kept.pop("iou", None)
                self.write_metrics(runner, runner.loader_metrics, kept)

    def _by_name(self, name: str, own: float, by_class: Sequence[float]) -> dict[str, float]:
        if self.task == "binary":
            return {name: own}
        names = (f"{name}/{self.class_names[number]}" for number in self.classes)
        return {name: own, **dict(zip(names, by_class, strict=True))}

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was counted of the loader so far, in types that ``weights_only=True`` loads."""
        return to_plain(None if self.measure_ is None else self.measure_.state)

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Any]) -> None:
        """Continue from what ``loader_state`` returned."""
        if self.measure_ is not None:
            self.has_pixels_ = "pixels" in state
            self.measure_.state = {**self.measure_.state, **from_plain(state, self.measure_.state)}


def _name_of(metric: str) -> str:
    return f"{metric}_per_image"


def _class_numbers(task: str, classes: Sequence[str | int] | None, names: Sequence[str]) -> list[int]:
    """Return the numbers of the classes that count."""
    # The same rule as that of ``Metrics`` by name, whose values these are compared with.
    if task == "binary":
        if classes is not None:
            raise UsageError(f"classes is not for the task 'binary', of which class 1 counts, got {classes!r}.")
        return [1]
    found = [*range(len(names))] if classes is None else [_class_number(one, names) for one in classes]
    if not found or len(set(found)) != len(found):
        raise UsageError(f"classes must hold one or several different classes, got {classes!r}.")
    return found


def _class_number(one: str | int, names: Sequence[str]) -> int:
    if isinstance(one, int) and 0 <= one < len(names):
        return one
    if one not in names:
        raise unknown_name("class", one, names, note=f" in classes, of {len(names)}")
    return names.index(str(one))
