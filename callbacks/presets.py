"""Presets: the diagnostics that fit a task, at three levels, as a list for ``train(callbacks=...)``."""

from collections.abc import Sequence
from typing import Any

from catalyst import dl

from .classes.classification_report import ClassificationReport
from .classes.confusion_matrix import ConfusionMatrix
from .classes.image_overlap import ImageOverlap
from .classes.pr_curves import PRCurves
from .classes.prediction_distribution import PredictionDistribution
from .drawings.canvas.images import Channels
from .errors import UsageError, unknown_name
from .history.sample_history import SampleHistory
from .keys import IMAGE_KEY, OUTPUT_KEY, SAMPLE_ID_KEY, TARGET_KEY
from .levels import LEVELS
from .measures.sample_history import TASKS
from .metrics.batch_metrics import Metrics
from .metrics.box_confusion import BoxConfusion
from .metrics.box_curves import BoxCurves
from .metrics.box_metrics import BoxMetrics
from .overhead.budget import OverheadBudget
from .samples.augmentation_preview import AugmentationPreview
from .samples.best_worst_batches import BestWorstBatches
from .samples.best_worst_samples import BestWorstSamples
from .samples.box_score import BoxF1
from .samples.chosen_samples import FixedSamples, RandomSamples
from .samples.grad_cam import GradCAM
from .training.curves import Curves
from .training.data_overview import DataOverview
from .training.gradient_stats import GradientStats
from .training.optimizer_monitor import OptimizerMonitor
from .training.time_monitor import TimeMonitor

# Left out of a list with a prefix: they are about the whole run, and the list without one has them.
_OF_THE_RUN = (OptimizerMonitor, TimeMonitor, GradientStats, Curves, SampleHistory)
# Left out where samples are no images.
_OF_IMAGES = (
    BestWorstBatches, BestWorstSamples, GradCAM, FixedSamples, RandomSamples, AugmentationPreview, DataOverview,
)  # fmt: skip
_MOST_BY_CHANCE = 8  # samples a picture of those chosen by chance: each is copied within a step


def classification_diagnostics(
    level: str = "full",
    *,
    metrics: Sequence[str] = ("accuracy", "f1"),
    task: str = "multiclass",
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    ignore_index: int | None = None,
    image_key: str | None = IMAGE_KEY,
    target_key: str = TARGET_KEY,
    output_key: str = OUTPUT_KEY,
    sample_id_key: str = SAMPLE_ID_KEY,
    loss_key: str = "loss",
    criterion_key: str | None = None,
    mean: Channels = 0.0,
    std: Channels = 1.0,
    k_samples: int = 12,
    gradients_every_n_steps: int = 10,
    max_overhead: float | None = None,
    prefix: str = "",
) -> list[dl.Callback]:
    """Return the diagnostics of a classifier.

    ========= ================================================================================================
    level     what is in the list
    ========= ================================================================================================
    ``off``   ``Metrics``, which checkpoints are chosen by
    ``light`` these, ``BestWorstBatches``, ``ConfusionMatrix``, ``ClassificationReport``, ``OptimizerMonitor``,
              ``TimeMonitor``
    ``full``  these, ``BestWorstSamples``, ``GradCAM``, ``FixedSamples``, ``RandomSamples``,
              ``PredictionDistribution``, ``PRCurves``, ``GradientStats``, ``AugmentationPreview``,
              ``DataOverview``, ``Curves``, ``SampleHistory``
    ========= ================================================================================================

    Args:
        level: how much is shown, see above.
        metrics: names of the metrics, see ``Metrics``.
        task: ``multiclass``, ``binary`` or ``multilabel``.
        num_classes: C, the number of classes or labels. Not needed with ``class_names``.
        class_names: one name per class or label; None: they are shown by number.
        ignore_index: target value that does not count.
        image_key: key of the images in the batch. None: samples are no images, and the callbacks that show images are
            left out.
        target_key: key of the targets in the batch: class numbers [N], or 0 and 1 in the shape of the output.
        output_key: key of the outputs in the batch: logits [N, C], or [N] or [N, 1] for ``binary``.
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        loss_key: the batch metric by which the best and worst batches are found.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; see ``BestWorstSamples``.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        k_samples: how many samples each picture shows; those chosen by chance at most 8.
        gradients_every_n_steps: observe gradients and their norm at one in so many optimizer steps, beginning with the
            first.
        max_overhead: the largest share of the loop's time that all diagnostics of the run may take; the costly ones are
            thinned to stay below it (see ``OverheadBudget``). None: nothing is measured, and nothing thinned.
        prefix: added to all tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``, for a second list about
            another output of the model. Such a list leaves out what covers the whole run: ``OptimizerMonitor``,
            ``TimeMonitor``, ``GradientStats``, ``Curves``, ``SampleHistory``, ``max_overhead``.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> [type(one).__name__ for one in classification_diagnostics("light", num_classes=3)]
        ['Metrics', 'BestWorstBatches', 'ConfusionMatrix', 'ClassificationReport', 'OptimizerMonitor', 'TimeMonitor']
    """
    named: dict[str, Any] = {"class_names": class_names, "ignore_index": ignore_index, "target_key": target_key}
    named["prefix"] = prefix
    inputs = {**named, "image_key": image_key or IMAGE_KEY, "sample_id_key": sample_id_key, "mean": mean, "std": std}
    shown = {**inputs, "task": task, "output_key": output_key, "criterion_key": criterion_key}
    # The same arguments for all that count classes or scores, so that they share what they count.
    counted = {**named, "task": task, "num_classes": num_classes, "output_key": output_key}
    light = [
        BestWorstBatches(loss_key, k_images=k_samples, **shown),
        ConfusionMatrix(**counted),
        ClassificationReport(**counted),
        OptimizerMonitor(gradients_every_n_steps),
        TimeMonitor(),
    ]
    full = [
        BestWorstSamples(k_samples=k_samples, **shown),
        GradCAM(k_samples=k_samples, **shown),
        *_by_chance(k_samples, **shown),
        PredictionDistribution(**counted),
        PRCurves(**counted),
        GradientStats(gradients_every_n_steps),
        AugmentationPreview(k_samples, task=task, **inputs),
        DataOverview(image_key=image_key or IMAGE_KEY, task=task, **named),
        Curves(),
        *_history(**shown, thumbnails="auto" if image_key is not None else False),
    ]
    found = _choose_level(level, [Metrics(metrics, **counted)], light, full, max_overhead, prefix)
    return found if image_key is not None else _without_images(found)


def segmentation_diagnostics(
    level: str = "full", *, metrics: Sequence[str] = ("iou", "accuracy"), **options: Any
) -> list[dl.Callback]:
    """Return the diagnostics of a segmentation model: those of a classifier, which count pixels, and those of regions.

    ========= ================================================================================================
    level     what is in the list beside what ``classification_diagnostics`` has
    ========= ================================================================================================
    ``light`` ``ImageOverlap``: IoU of each class and image, and boundary IoU
    ``full``  the same
    ========= ================================================================================================

    Args:
        level: see ``classification_diagnostics``.
        metrics: names of the metrics, see ``Metrics``.
        options: all other arguments of ``classification_diagnostics``. The target is [N, H, W], class numbers, or 0 and
            1 for ``binary``; the output is [N, C, H, W], or for ``binary`` [N, 1, H, W] or [N, H, W]. For
            ``multilabel`` both are [N, C, H, W].

    Raises:
        UsageError: an argument is out of range.
    """
    found = classification_diagnostics(level, metrics=metrics, **options)
    if level == "off":
        return found
    taken = ("task", "num_classes", "class_names", "ignore_index", "target_key", "output_key", "prefix")
    named = {name: options[name] for name in taken if name in options}
    # Beside the metrics by name, with which its own are logged.
    return [*found[:1], ImageOverlap(("iou", "boundary_iou"), **named), *found[1:]]


def detection_diagnostics(
    level: str = "full",
    *,
    class_names: Sequence[str] | None = None,
    image_key: str = IMAGE_KEY,
    target_key: str = TARGET_KEY,
    output_key: str = OUTPUT_KEY,
    sample_id_key: str = SAMPLE_ID_KEY,
    mean: Channels = 0.0,
    std: Channels = 1.0,
    k_samples: int = 12,
    min_score: float = 0.5,
    min_iou: float = 0.5,
    gradients_every_n_steps: int = 10,
    max_overhead: float | None = None,
    prefix: str = "",
) -> list[dl.Callback]:
    """Return the diagnostics of a detector.

    ========= ================================================================================================
    level     what is in the list
    ========= ================================================================================================
    ``off``   ``BoxMetrics``, which checkpoints are chosen by: mean average precision, by class and size too
    ``light`` these, ``BestWorstSamples`` by F1 of the boxes, ``OptimizerMonitor``, ``TimeMonitor``
    ``full``  these, ``BoxCurves``, ``BoxConfusion``, ``FixedSamples``, ``RandomSamples``, ``GradientStats``,
              ``AugmentationPreview``, ``DataOverview``, ``Curves``, ``SampleHistory``
    ========= ================================================================================================

    Args:
        level: how much is shown, see above.
        class_names: one name per label, from label 0 on; None: labels are shown by number.
        image_key: key of the images in the batch: [N, C, H, W], or N images of several sizes.
        target_key: key of the targets in the batch: N dicts of ``boxes`` [M, 4] (left, top, right, bottom in pixels)
            and ``labels`` [M].
        output_key: key of the outputs in the batch: N dicts of ``boxes``, ``labels`` and ``scores`` [P].
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        k_samples: how many samples each picture shows; those chosen by chance at most 8.
        min_score: predictions below it do not count.
        min_iou: smallest overlap at which a box counts as found.
        gradients_every_n_steps: observe gradients and their norm at one in so many optimizer steps, beginning with the
            first.
        max_overhead: the largest share of the loop's time that all diagnostics of the run may take; the costly ones are
            thinned to stay below it (see ``OverheadBudget``). None: nothing is measured, and nothing thinned.
        prefix: added to all tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``, for a second list about
            another output of the model. Such a list leaves out what covers the whole run: ``OptimizerMonitor``,
            ``TimeMonitor``, ``GradientStats``, ``Curves``, ``SampleHistory``, ``max_overhead``.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> [type(one).__name__ for one in detection_diagnostics("light", class_names=["background", "wheat head"])]
        ['BoxMetrics', 'BestWorstSamples', 'OptimizerMonitor', 'TimeMonitor']
    """
    shown: dict[str, Any] = {
        "class_names": class_names, "mean": mean, "std": std,
        "image_key": image_key, "target_key": target_key, "sample_id_key": sample_id_key, "prefix": prefix,
    }  # fmt: skip
    # By F1 and not by loss, as detectors in evaluation return boxes alone; Grad-CAM explains no boxes.
    score = BoxF1(output_key, target_key, min_score, min_iou)
    counted: dict[str, Any] = {"class_names": class_names, "target_key": target_key, "output_key": output_key}
    counted["prefix"] = prefix
    boxes: dict[str, Any] = {"task": "detection", "output_key": output_key, "min_score": min_score, "min_iou": min_iou}
    samples = BestWorstSamples(score, minimize=False, k_samples=k_samples, **boxes, **shown)
    # With the same arguments, so that they share what they count.
    matched: dict[str, Any] = {**counted, "min_score": min_score, "min_iou": min_iou}
    full = [
        BoxCurves(**matched),
        BoxConfusion(**matched),
        *_by_chance(k_samples, **boxes, **shown),
        GradientStats(gradients_every_n_steps),
        AugmentationPreview(k_samples, task="detection", **shown),
        DataOverview(class_names=class_names, image_key=image_key, target_key=target_key, prefix=prefix),
        Curves(),
        *_history(**boxes, **shown),
    ]
    light = [samples, OptimizerMonitor(gradients_every_n_steps), TimeMonitor()]
    return _choose_level(level, [BoxMetrics(min_score=min_score, **counted)], light, full, max_overhead, prefix)


def regression_diagnostics(
    level: str = "full",
    *,
    metrics: Sequence[str] = ("mae", "mse", "r2"),
    ignore_index: float | None = None,
    image_key: str | None = IMAGE_KEY,
    target_key: str = TARGET_KEY,
    output_key: str = OUTPUT_KEY,
    sample_id_key: str = SAMPLE_ID_KEY,
    loss_key: str = "loss",
    criterion_key: str | None = None,
    mean: Channels = 0.0,
    std: Channels = 1.0,
    k_samples: int = 12,
    gradients_every_n_steps: int = 10,
    max_overhead: float | None = None,
    prefix: str = "",
) -> list[dl.Callback]:
    """Return the diagnostics of a model that predicts numbers: one or several per sample, or one per pixel.

    ========= ================================================================================================
    level     what is in the list
    ========= ================================================================================================
    ``off``   ``Metrics``, which checkpoints are chosen by
    ``light`` these, ``BestWorstBatches``, ``OptimizerMonitor``, ``TimeMonitor``
    ``full``  these, ``BestWorstSamples``, ``GradCAM``, ``FixedSamples``, ``RandomSamples``, ``GradientStats``,
              ``AugmentationPreview``, ``Curves``
    ========= ================================================================================================

    Args:
        level: how much is shown, see above.
        metrics: names for ``Metrics``: mae, mse and r2.
        ignore_index: target value that is left out; give the criterion its own rule for it.
        image_key: key of the images in the batch. None: samples are no images, and the callbacks that show images are
            left out.
        target_key: key of the targets in the batch: numbers in the shape of the output.
        output_key: key of the outputs in the batch: [N], [N, D], or of maps [N, H, W] or [N, D, H, W].
        sample_id_key: key of the sample ids in the batch; without it, samples are named by their position in the
            loader.
        loss_key: the batch metric by which the best and worst batches are found.
        criterion_key: name of the criterion, of several, that gives the loss of a sample; see ``BestWorstSamples``.
        mean: mean of the images' normalization ``(x - mean) / std``, one number or one per channel.
        std: standard deviation of that normalization, one number or one per channel.
        k_samples: how many samples each picture shows; those chosen by chance at most 8.
        gradients_every_n_steps: observe gradients and their norm at one in so many optimizer steps, beginning with the
            first.
        max_overhead: the largest share of the loop's time that all diagnostics of the run may take; the costly ones are
            thinned to stay below it (see ``OverheadBudget``). None: nothing is measured, and nothing thinned.
        prefix: added to all tags and metrics, as ``TAG/PREFIX`` and ``PREFIX/NAME``, for a second list about
            another output of the model. Such a list leaves out what covers the whole run: ``OptimizerMonitor``,
            ``TimeMonitor``, ``GradientStats``, ``Curves``, ``max_overhead``.

    Raises:
        UsageError: an argument is out of range.

    Example:
        >>> [type(one).__name__ for one in regression_diagnostics("full", image_key=None)]
        ['Metrics', 'OptimizerMonitor', 'TimeMonitor', 'GradientStats', 'Curves']
    """
    task: dict[str, Any] = {"task": "regression", "ignore_index": ignore_index, "target_key": target_key}
    task["prefix"] = prefix
    inputs = {**task, "image_key": image_key or IMAGE_KEY, "sample_id_key": sample_id_key, "mean": mean, "std": std}
    shown = {**inputs, "output_key": output_key, "criterion_key": criterion_key}
    light = [
        BestWorstBatches(loss_key, k_images=k_samples, **shown),
        OptimizerMonitor(gradients_every_n_steps),
        TimeMonitor(),
    ]
    full = [
        BestWorstSamples(k_samples=k_samples, **shown),
        GradCAM(k_samples=k_samples, **shown),
        *_by_chance(k_samples, **shown),
        GradientStats(gradients_every_n_steps),
        AugmentationPreview(k_samples, **inputs),
        Curves(),
    ]
    found = _choose_level(level, [Metrics(metrics, output_key=output_key, **task)], light, full, max_overhead, prefix)
    return found if image_key is not None else _without_images(found)


def _history(*, task: str, prefix: str, **options: Any) -> list[dl.Callback]:
    # A list with a prefix leaves it out.
    return [SampleHistory(task, **options)] if task in TASKS and not prefix else []


def _by_chance(k_samples: int, **shown: Any) -> list[dl.Callback]:
    count = min(k_samples, _MOST_BY_CHANCE)
    return [FixedSamples(count, **shown), RandomSamples(count, **shown)]


def _choose_level(
    level: str,
    off: list[dl.Callback],
    light: list[dl.Callback],
    full: list[dl.Callback],
    max_overhead: float | None,
    prefix: str,
) -> list[dl.Callback]:
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
    # A budget is about the run: two of them would thin the same diagnostics twice.
    if prefix and max_overhead is not None:
        raise UsageError(
            f"max_overhead is about the whole run: give it to the list without a prefix, got {max_overhead} and "
            f"prefix={prefix!r}."
        )
    budget = [] if max_overhead is None else [OverheadBudget(max_overhead)]
    found = {"off": off, "light": [*off, *light, *budget], "full": [*off, *light, *full, *budget]}[level]
    return [callback for callback in found if not (prefix and isinstance(callback, _OF_THE_RUN))]


def _without_images(callbacks: list[dl.Callback]) -> list[dl.Callback]:
    return [callback for callback in callbacks if not isinstance(callback, _OF_IMAGES)]
