"""Check the boxes and labels of a batch before one of torchvision's detectors receives them."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY
from assay.callbacks.support.host_targets import sample_of

_DETECTORS = "torchvision.models.detection"


@dataclass(frozen=True)
class Labels:
    """The labels that a detector accepts.

    Attributes:
        first: the smallest label; 1 where 0 is the background.
        last: the largest label; None: unknown.
        box_type: the only accepted type of boxes; None: any floating point.
    """

    first: int
    last: int | None
    box_type: torch.dtype | None = None


def detector_labels(models: Iterable[nn.Module]) -> Labels | None:
    """Return the labels that torchvision's detector among the modules accepts; None where there is no detector."""
    # A model of torchvision's has imported it; importing it here would slow down every other run.
    if _DETECTORS not in sys.modules:
        return None
    detection = sys.modules[_DETECTORS]
    for part in (part for model in models for part in model.modules()):
        if isinstance(part, detection.roi_heads.RoIHeads):
            # A head of the user's own may lack this: the last label is unknown then, and only the first is checked.
            scores = getattr(part.box_predictor, "cls_score", None)
            return Labels(1, None if scores is None else scores.out_features - 1)
        if isinstance(part, detection.ssd.SSD):
            columns = getattr(part.head.classification_head, "num_columns", None)
            return Labels(1, None if columns is None else columns - 1)
        if isinstance(part, detection.RetinaNet | detection.FCOS):  # they have no background class
            classes = getattr(part.head.classification_head, "num_classes", None)
            box_type = next(part.parameters()).dtype if isinstance(part, detection.FCOS) else None
            return Labels(0, None if classes is None else classes - 1, box_type)
    return None


def check_boxes(batch: Mapping[str, Any], labels: Labels, place: str) -> None:
    """Raise where a batch holds boxes that torchvision rejects or would silently learn wrongly.

    Args:
        batch: as the loader yields it, on the host; lists of one dict per image with ``boxes`` and ``labels`` are
            checked.
        labels: the labels that the detector accepts.
        place: opens the error message.

    Raises:
        UsageError: boxes are not floating point [M, 4] (left, top, right, bottom), not finite, empty, or outside of
            their image; labels are not int64 [M], or not a class. The message names the sample.
    """
    for key, images in batch.items():
        if isinstance(images, list | tuple) and all(isinstance(one, Mapping) and "boxes" in one for one in images):
            for index, one in enumerate(images):
                if (wrong := _describe_fault(one, _image_size(batch, index), labels)) is not None:
                    raise UsageError(f"{place}, {sample_of(batch, index)}: {key!r} {wrong}.")


def _describe_fault(image: Mapping[str, Any], size: tuple[int, int] | None, known: Labels) -> str | None:
    boxes, labels = image["boxes"], image.get("labels")
    if not isinstance(boxes, Tensor) or not isinstance(labels, Tensor):
        return f"needs 'boxes' and 'labels' as tensors, got {type(boxes).__name__} and {type(labels).__name__}"
    if boxes.device.type != "cpu" or labels.device.type != "cpu":
        return None  # reading them would make the host wait for the device
    if boxes.ndim != 2 or boxes.shape[-1] != 4:
        hint = ": an image without boxes has torch.zeros(0, 4)" if not boxes.numel() else ""
        return f"holds boxes of shape {list(boxes.shape)}, and [M, 4] is needed{hint}"
    if not boxes.is_floating_point():
        return f"holds boxes of {boxes.dtype}, and floating point is needed: .float()"
    if known.box_type not in (None, boxes.dtype):
        return f"holds boxes of {boxes.dtype}, and this detector takes only {known.box_type}: .to({known.box_type})"
    if labels.dtype != torch.int64 or labels.shape != boxes.shape[:1]:
        return f"holds labels {list(labels.shape)} of {labels.dtype}, and [{len(boxes)}] of torch.int64 is needed"
    return _box_fault(boxes, size) or _label_fault(labels, known)


def _box_fault(boxes: Tensor, size: tuple[int, int] | None) -> str | None:
    for box in boxes.tolist():
        left, top, right, bottom = box
        # With "not", because every comparison with NaN is false.
        if not right > left or not bottom > top or not all(abs(side) < float("inf") for side in box):
            wanted = "left, top, right, bottom, with right > left and bottom > top"
            return f"holds the box {_format_box(box)}, and boxes are {wanted}"
        # A box that reaches past the border is accepted: only one without a pixel of the image teaches nothing.
        if size is not None and (left >= size[1] or top >= size[0] or right <= 0 or bottom <= 0):
            return f"holds the box {_format_box(box)}, which is outside of its image of {size[1]} x {size[0]} pixels"
    return None


def _label_fault(labels: Tensor, known: Labels) -> str | None:
    for label in labels.tolist():
        if label < known.first or (known.last is not None and label > known.last):
            until = "" if known.last is None else f" to {known.last}"
            background = ", as 0 is the background" if known.first else ""
            return f"holds the label {label}, and the detector takes labels from {known.first}{until}{background}"
    return None


def _format_box(box: list[float]) -> str:
    return f"[{', '.join(f'{side:g}' for side in box)}]"


def _image_size(batch: Mapping[str, Any], index: int) -> tuple[int, int] | None:
    """Return height and width of an image; None where they are unknown."""
    images = batch.get(IMAGE_KEY)
    if not isinstance(images, Tensor | list | tuple) or len(images) <= index:
        return None
    image = images[index]
    return (image.shape[-2], image.shape[-1]) if isinstance(image, Tensor) and image.ndim == 3 else None
