"""What the callbacks that measure were told of the data, and of the task."""

from collections.abc import Sequence
from typing import Any

from catalyst import dl

from ....drawings.canvas.picture_style import PictureStyle
from ....support.runner_view import callbacks_of
from ....support.unwrap import inside
from ...probe.settings_probe import MetricProbe, TermProbe

_OF_KINDS = {
    "cross_entropy": "multiclass", "nll": "multiclass", "margin": "multiclass", "mse": "regression",
    "l1": "regression", "smooth_l1": "regression", "gaussian_nll": "regression", "poisson_nll": "regression",
}  # fmt: skip
_OF_CALLBACKS = {
    "AccuracyCallback": "multiclass", "PrecisionRecallF1SupportCallback": "multiclass",
    "ConfusionMatrixCallback": "multiclass", "MultilabelAccuracyCallback": "multilabel",
    "MultilabelPrecisionRecallF1SupportCallback": "multilabel", "R2SquaredCallback": "regression",
}  # fmt: skip
_OF_REGIONS = ("dice", "jaccard", "lovasz", "tversky")
_SEGMENTATION = ("Boundaries", "BoundaryIoU", "ImageOverlap", "IOUCallback", "DiceCallback", "TrevskyCallback")


def observe_metrics(runner: dl.IRunner) -> tuple[MetricProbe, ...]:
    """Return what is known of each callback that reads outputs, targets or images."""
    found = [_observe(inside(callback)) for callback in callbacks_of(runner)]
    return tuple(one for one in found if one is not None)


def _observe(callback: Any) -> MetricProbe | None:
    # The loss is none of the metrics, and has terms of its own.
    if isinstance(callback, dl.ICriterionCallback | dl.IOptimizerCallback | dl.IBackwardCallback):
        return None
    of_catalyst = isinstance(callback, dl.IMetricCallback) or hasattr(callback, "confusion_matrix")
    keys = getattr(callback, "keys", None)
    keys = keys if isinstance(keys, dict) else {}
    output = _text(getattr(callback, "input_key" if of_catalyst else "output_key", keys.get("output")))
    target = _text(getattr(callback, "target_key", keys.get("target")))
    image = _text(getattr(callback, "image_key", keys.get("image")))
    if output is None and target is None and image is None:
        return None
    style = getattr(callback, "style", None)
    style = style if isinstance(style, PictureStyle) else PictureStyle()
    told = (style.mean, style.std) != (0.0, 1.0)
    return MetricProbe(
        callback=type(callback).__name__,
        output_key=output,
        target_key=target,
        image_key=image,
        num_classes=_class_count(callback, style),
        ignore_index=_whole(getattr(callback, "ignore_index", style.ignore_index)),
        mean=_channels(style.mean) if told else None,
        std=_channels(style.std) if told else None,
        task=_text(getattr(callback, "task", _OF_CALLBACKS.get(type(callback).__name__))),
    )


def _class_count(callback: Any, style: PictureStyle) -> int | None:
    given = _whole(getattr(callback, "num_classes", None))
    given = _whole(getattr(getattr(callback, "metric", None), "num_classes", None)) if given is None else given
    return len(style.class_names) if given is None and style.class_names else given


def class_names(runner: dl.IRunner) -> tuple[str, ...]:
    """Return the names of the classes, as the first callback that has some was given them."""
    for callback in map(inside, callbacks_of(runner)):
        style = getattr(callback, "style", None)
        for names in (getattr(callback, "class_names", None), getattr(style, "class_names", None)):
            # What is counted by number has the numbers as names.
            if isinstance(names, Sequence) and names and list(names) != [str(i) for i in range(len(names))]:
                return tuple(map(str, names))
    return ()


def class_count(metrics: Sequence[MetricProbe], names: Sequence[str]) -> int | None:
    """Return the number of classes or labels, as callbacks or names tell it."""
    told = [one.num_classes for one in metrics if one.num_classes is not None]
    return told[0] if told else len(names) or None


def task_of(metrics: Sequence[MetricProbe], terms: Sequence[TermProbe], callbacks: Sequence[Any]) -> str:
    """Return the task as far as callbacks and criteria tell it, else ""."""
    kinds = [type(inside(callback)).__name__ for callback in callbacks]
    if any(kind.startswith(("Box", "Detection")) for kind in kinds):
        return "detection"
    told = [one.task for one in metrics if one.task]
    # Masks of several labels are known as such: that their values may overlap says more.
    of_masks = any(kind in _SEGMENTATION for kind in kinds) or any(it.criterion.kind in _OF_REGIONS for it in terms)
    if of_masks and "multilabel" not in told:
        return "segmentation"
    known = [_OF_KINDS[term.criterion.kind] for term in terms if term.criterion.kind in _OF_KINDS]
    return next(iter([*told, *known]), "")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _channels(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence) else (float(value),)
