"""ImageOverlap: IoU and Dice of each image, averaged over images."""

from collections.abc import Mapping, Sequence
from typing import Any

from catalyst import dl

from ..base.class_shapes import check_shapes
from ..base.class_targets import ClassTargets
from ..base.dict_batch import pick_tensor
from ..base.naming import Named
from ..base.order import METRICS
from ..errors import UsageError, unknown_name
from ..keys import OUTPUT_KEY, TARGET_KEY
from ..measures.image_overlap import OVERLAPS, WITHOUT_TRUTH, image_means
from ..measures.image_overlap import ImageOverlap as Measure
from ..measures.measure import reduce_measure
from ..measures.targets import decide_targets
from ..metrics.batch_metrics import TASKS, predicted_classes
from ..support.checkpoint_values import from_plain, to_plain
from ..support.class_names import check_names
from .class_counts import count_classes


class ImageOverlap(Named):
    """Computes the IoU and the Dice of each image, and their means over the images of each loader.

    ``Metrics("iou")`` counts the pixels of all images together, so that large regions dominate. Here every image has
    the same weight, as in pytorch-toolbelt's ``IoUMetricsCallback``. The value of an image is the mean over the classes
    that have a value in it.

    =========================== ==================================================================================
    written to                  content, 0 to 1
    =========================== ==================================================================================
    ``runner.loader_metrics``   ``iou_per_image``, ``dice_per_image``: mean over images of an image's own value
    ``runner.loader_metrics``   ``iou_per_image/CLASS``, ``dice_per_image/CLASS``: mean over the images that have
                                a value of the class; not for ``binary``
    ``runner.batch_metrics``    ``iou_per_image``, ``dice_per_image``: of the batch, a tensor on the device
    =========================== ==================================================================================

    A value is NaN if no image has one. All values cover the images of all ranks. Nothing is read from the device within
    a step, and memory does not grow with the number of images. Inference loaders are skipped.

    Args:
        metrics: ``iou``, ``dice`` or both.
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
        for kind, known, given in (("metric", OVERLAPS, self.metrics), ("task", TASKS, [task])):
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

    def metrics_written(self, loader_key: str) -> list[str]:
        return [_name_of(metric) for metric in self.metrics]

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        self.measure_ = None
        if not runner.is_infer_loader:
            self.measure_ = Measure(
                self.task, self.num_classes, self.classes, self.ignore_index, self.without_truth, runner.engine.device
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
        values = {_name_of(metric): means[OVERLAPS.index(metric), -1] for metric in self.metrics}
        self.write_metrics(runner, runner.batch_metrics, values)

    def on_loader_end(self, runner: dl.IRunner) -> None:
        if self.measure_ is None:
            return
        state = reduce_measure(self.measure_)
        self.measure_ = None
        # Reduced over ranks before, so that all ranks raise together.
        means, outside = image_means(state).tolist(), int(state["outside"])
        if outside:
            raise self.targets.error(runner.loader_key, outside)
        for metric in self.metrics:
            *by_class, own = means[OVERLAPS.index(metric)]
            values = {_name_of(metric): own}
            if self.task != "binary":
                names = (f"{_name_of(metric)}/{self.class_names[number]}" for number in self.classes)
                values.update(zip(names, by_class, strict=True))
            self.write_metrics(runner, runner.loader_metrics, values)

    def loader_state(self, runner: dl.IRunner) -> Any:
        """Return what was counted of the loader so far, in types that ``weights_only=True`` loads."""
        return to_plain(None if self.measure_ is None else self.measure_.state)

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Any]) -> None:
        """Continue from what ``loader_state`` returned."""
        if self.measure_ is not None:
            self.measure_.state = from_plain(state, self.measure_.state)


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
