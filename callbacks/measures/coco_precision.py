"""The precision of detected boxes over all images, as COCO defines it."""

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .box_precision import Boxes

COLUMNS = 7  # of packed boxes
SIZES = ("small", "medium", "large")

_HALF, _THREE_QUARTERS = 0, 5  # among the IoUs


@dataclass(frozen=True)
class Figures:
    """Average precision, 0 to 1; NaN where there is no true box.

    Attributes:
        map: the mean over IoUs from 0.5 to 0.95, in steps of 0.05.
        ap50: at an IoU of 0.5.
        ap75: at an IoU of 0.75.
        by_size: the mean over IoUs, as ``map``, by name of ``SIZES``: of true boxes of up to 32 x 32 pixels, from there
            to 96 x 96, and above. Predictions of another size do not count unless they hit one of these.
    """

    map: float
    ap50: float
    ap75: float
    by_size: Mapping[str, float]


@dataclass(frozen=True)
class CocoPrecision:
    """The average precision of a loader.

    Attributes:
        overall: the means over the labels that have a true box.
        by_label: the same of each label that has a true box, by label.
        left_out: predictions whose box or score was not finite, and which do not count.
    """

    overall: Figures
    by_label: Mapping[int, Figures]
    left_out: int


def coco_precision(batches: Sequence[tuple[Tensor, Tensor]]) -> CocoPrecision:
    """Return COCO's figures for batches of packed predictions and packed truth, in the order of their images.

    Predictions of all images are ranked by score, equal ones in the order of the images. The first 100 of each image
    and label count. A true box that is a crowd need not be found, and what is found within it is not false. The size
    of an object is that of its box.

    ``pycocotools`` computes it.
    """
    found, true = (_number_images(of) for of in zip(*batches, strict=True))
    kept = found[found.isfinite().all(dim=1)]
    labels = torch.cat([kept[:, 5], true[:, 5]]).long().unique().tolist()
    images = sum(int(part[:, 5].isnan().sum()) for _, part in batches)
    precision = _evaluate(kept, true, labels, images)
    by_label = {label: _figures(precision[:, :, place]) for place, label in enumerate(labels)}
    known = {label: of for label, of in by_label.items() if not np.isnan(of.map)}
    return CocoPrecision(_figures(precision), known, len(found) - len(kept))


def _number_images(parts: Iterable[Tensor]) -> Tensor:
    """Return the boxes of several batches as one tensor [B, 7], with their images numbered on."""
    rows, first = [], 0
    for part in parts:
        opens = part[:, 5].isnan()
        rows.append(part[~opens] + part.new_tensor([first, *[0] * (COLUMNS - 1)]))
        first += int(opens.sum())
    return torch.cat(rows)


def _evaluate(found: Tensor, true: Tensor, labels: Sequence[int], images: int) -> np.ndarray:
    """Return the precision by IoU, recall, label and size (any, small, medium, large); -1 where no box is true."""
    from pycocotools.coco import COCO  # with the experiments alone
    from pycocotools.cocoeval import COCOeval

    whole = {"images": [{"id": number} for number in range(images)], "categories": [{"id": one} for one in labels]}
    truth, predictions = COCO(), COCO()
    truth.dataset = {**whole, "annotations": [*_annotations(true, "iscrowd")]}
    predictions.dataset = {**whole, "annotations": [*_annotations(found, "score")]}
    # They print what they do.
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        predictions.createIndex()
        evaluation = COCOeval(truth, predictions, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    # The last of the limits to the predictions of an image and label: 100.
    precision: np.ndarray = evaluation.eval["precision"][..., -1]
    return precision


def _annotations(boxes: Tensor, last: str) -> Iterable[dict[str, Any]]:
    """Yield boxes [B, 7] in COCO's form; ``last`` names the last column."""
    parts = boxes.nan_to_num(0.0)  # that column of a true box is NaN where nobody said whether it is a crowd
    for number, (image, left, top, right, bottom, label, value) in enumerate(parts.tolist(), start=1):
        width, height = right - left, bottom - top
        yield {
            "id": number, "image_id": int(image), "category_id": int(label), "bbox": [left, top, width, height],
            "area": width * height, "iscrowd": 0, last: int(value) if last == "iscrowd" else value,
        }  # fmt: skip


def _figures(precision: np.ndarray) -> Figures:
    """Return the figures of precision by IoU, recall and size, [10, 101, ..., 4]."""
    by_size = {size: _mean_known(precision[..., place]) for place, size in enumerate(SIZES, start=1)}
    of_any = precision[..., 0]
    return Figures(_mean_known(of_any), _mean_known(of_any[_HALF]), _mean_known(of_any[_THREE_QUARTERS]), by_size)


def _mean_known(precision: np.ndarray) -> float:
    # COCO's tools write -1 where there is no true box.
    known = precision[precision > -1]
    return float(known.mean()) if len(known) else float("nan")


def pack(images: Boxes) -> Tensor:
    """Return the boxes of N images in one tensor, [sum of boxes + N, 7], float64; ``unpack`` takes it apart.

    Each image has a row with its number alone, and then its boxes in the columns number, left, top, right, bottom,
    label and score; the last is 1 for a true box that is a crowd, and NaN where there is none. The host reads nothing.
    """
    # One tensor is one copy to the host per batch; float64 holds labels and image numbers exactly. All images at once,
    # as an operation takes the same time for one box and for hundreds.
    boxes = torch.cat(
        [image["boxes"] if image["boxes"].ndim == 2 else image["boxes"].reshape(-1, 4) for image in images]
    )
    labels, lasts = torch.cat([image["labels"] for image in images]), torch.cat([_last_of(image) for image in images])
    rows = torch.cat([boxes.double(), labels.double()[:, None], lasts.double()[:, None]], dim=1)
    # Without this row an image without boxes would be lost.
    opens = rows.new_full((1, COLUMNS - 1), torch.nan)
    parts = rows.split([len(image["labels"]) for image in images])
    rows = torch.cat([row for part in parts for row in (opens, part)])
    return torch.cat([rows[:, 4:5].isnan().cumsum(dim=0) - 1.0, rows], dim=1)


def _last_of(image: Mapping[str, Tensor]) -> Tensor:
    last = image.get("scores", image.get("iscrowd"))
    if last is not None:
        return last
    # Boxes may be whole numbers, among which there is no NaN.
    return image["boxes"].new_full((len(image["labels"]),), torch.nan, dtype=torch.float64)


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
