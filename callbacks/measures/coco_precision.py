"""The precision of detected boxes over all images, as COCO defines it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .box_precision import Boxes

COLUMNS = 7  # of packed boxes


@dataclass(frozen=True)
class CocoPrecision:
    """Average precision, 0 to 1.

    Attributes:
        map: the mean over classes and over IoUs from 0.5 to 0.95; NaN where there is no true box.
        ap50: the mean over classes at an IoU of 0.5; NaN where there is no true box.
        by_label: the mean over IoUs from 0.5 to 0.95 of each label that has a true box, by label.
        left_out: predictions whose box or score was not finite, and which do not count.
    """

    map: float
    ap50: float
    by_label: Mapping[int, float]
    left_out: int


def coco_precision(batches: Sequence[tuple[Tensor, Tensor]]) -> CocoPrecision:
    """Return COCO's figures for batches of packed predictions and packed truth, in the order of their images.

    Predictions of all images are ranked by score, equal ones in the order of the images. The first 100 of each image
    and label count. A true box that is a crowd need not be found, and what is found within it is not false.

    ``torchmetrics.detection.MeanAveragePrecision`` computes it, by pycocotools.
    """
    from torchmetrics.detection import MeanAveragePrecision  # takes a second to import

    metric = MeanAveragePrecision(class_metrics=True)
    metric.warn_on_many_detections = False
    metric.sync_on_compute = False  # every rank has all batches
    left_out = 0
    for found, true in batches:
        kept = _drop_non_finite(found)
        left_out += len(found) - len(kept)
        metric.update(unpack(kept), unpack(true))
    values = metric.compute()
    labels, precisions = (values[name].reshape(-1).tolist() for name in ("classes", "map_per_class"))
    known = {label: value for label, value in zip(labels, precisions, strict=True) if value >= 0}
    return CocoPrecision(_nan_if_negative(values["map"]), _nan_if_negative(values["map_50"]), known, left_out)


def pack(images: Boxes) -> Tensor:
    """Return the boxes of N images in one tensor, [sum of boxes + N, 7], float64; ``unpack`` takes it apart.

    Each image has a row with its number alone, and then its boxes in the columns number, left, top, right, bottom,
    label and score; the last is 1 for a true box that is a crowd, and NaN where there is none. The host reads nothing.
    """
    # One tensor is one copy to the host per batch; float64 holds labels and image numbers exactly.
    return torch.cat([_pack_image(number, image) for number, image in enumerate(images)])


def unpack(packed: Tensor) -> list[dict[str, Tensor]]:
    """Return the boxes of each image as dicts again, on the host: ``boxes``, ``labels``, ``scores`` and ``iscrowd``."""
    parts = packed.split(torch.unique_consecutive(packed[:, 0], return_counts=True)[1].tolist())
    return [
        {
            "boxes": part[1:, 1:5].float(),
            "labels": part[1:, 5].long(),
            "scores": part[1:, 6].float(),
            "iscrowd": part[1:, 6].nan_to_num(0.0).long(),
        }
        for part in parts
    ]


def _pack_image(number: int, image: Mapping[str, Tensor]) -> Tensor:
    boxes = image["boxes"].double().reshape(-1, 4)
    # Without this row an image without boxes would be lost.
    of_image = torch.cat([boxes.new_full((1, 1), number), boxes.new_full((1, COLUMNS - 1), torch.nan)], dim=1)
    last = image.get("scores", image.get("iscrowd"))
    last = boxes.new_full((len(boxes),), torch.nan) if last is None else last.double()
    columns = (boxes.new_full((len(boxes),), number), *boxes.unbind(dim=1), image["labels"].double(), last)
    return torch.cat([of_image, torch.stack(columns, dim=1)])


def _drop_non_finite(found: Tensor) -> Tensor:
    """Return packed predictions without those that are not finite; the row of each image stays."""
    opens = torch.cat([torch.ones(1, dtype=torch.bool), found[1:, 0] != found[:-1, 0]])
    return found[opens | found.isfinite().all(dim=1)]


def _nan_if_negative(value: Tensor) -> float:
    # COCO's tools return -1 where there is no true box.
    number = float(value)
    return torch.nan if number < 0 else number
