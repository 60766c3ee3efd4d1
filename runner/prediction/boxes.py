"""Predict boxes: a table of them, and the images with the boxes drawn."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from assay.callbacks.drawings.tasks.boxes import draw_predicted_boxes
from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import save_whole
from assay.callbacks.support.class_names import name_of

from ..experiment.prediction_spec import BoxPrediction
from .batches import Ready, read_batches
from .box_fusion import fuse_boxes
from .inputs import Input
from .models import Models
from .outcome import Outcome, not_finite
from .table import TABLE, write_table
from .transform import Place, Placing

DRAWN = "drawn"
_HEADER = ("image", "class", "score", "left", "top", "right", "bottom")
_LONGEST_SIDE = (800, 1600)  # of a drawn picture; smaller ones are enlarged to make room for text

Boxes = dict[str, np.ndarray]


def predict_boxes(
    models: Models,
    prediction: BoxPrediction,
    inputs: list[Input],
    output: Path,
    *,
    batch_size: int,
    outcome: Outcome,
) -> None:
    """Write ``predictions.csv``, one row per box in pixels of the image, highest score first, and ``drawn/NAME.jpg``.

    Args:
        models: the models.
        prediction: how the experiment predicts.
        inputs: the images.
        output: the folder.
        batch_size: images per batch.
        outcome: records the result for each image.
    """
    with write_table(output / TABLE, _HEADER) as table:
        transform, placing = prediction.transform, Placing(prediction.transform)
        batches = read_batches(
            inputs, prediction.read, transform, batch_size=batch_size, outcome=outcome, placing=placing
        )
        for batch, images in batches:
            found: list[list[Boxes]] = []
            with outcome.naming(ready.input.path for ready in batch):
                found = group_by_image(models.outputs(images), models, images.shape)
            for ready, of_image in zip(batch, found, strict=False):  # found is empty if the batch failed
                with outcome.naming([ready.input.path]):
                    # Before anything is written: a table must not hold half an image.
                    if not all(np.isfinite(boxes[name]).all() for boxes in of_image for name in ("boxes", "scores")):
                        raise not_finite(ready.input.path)
                    boxes = select_boxes(of_image, ready, prediction)
                    _save_drawing(ready, boxes, prediction.class_names, output)
                    for row in _table_rows(ready.input.name, boxes, prediction.class_names):
                        table.add(row)
                    outcome.add()


def group_by_image(outputs: list[list[Any]], models: Models, shape: Sequence[int]) -> list[list[Boxes]]:
    """Return for each image what each model found in each view."""
    found: list[list[Boxes]] = [[] for _ in range(shape[0])]
    for parts in outputs:
        views = [_checked_output(of_view) for part in parts for of_view in part]
        for of_image, turned_back in zip(found, models.views.boxes(views, shape[2], shape[3]), strict=True):
            of_image += [{name: of_view[name].float().cpu().numpy() for name in _NEEDED} for of_view in turned_back]
    return found


_NEEDED = ("boxes", "scores", "labels")


def _checked_output(found: Any) -> Mapping[str, Any]:
    if not isinstance(found, Mapping) or not all(name in found for name in _NEEDED):
        kind = f"a dict of {', '.join(map(str, found))}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise UsageError(f"a detector's output must be a list of dicts of boxes, scores and labels, got {kind}.")
    return found


def select_boxes(found: Sequence[Boxes], ready: Ready, prediction: BoxPrediction) -> Boxes:
    """Return the boxes to report for an image, in its own pixels, highest score first."""
    boxes = fuse_boxes(found) if len(found) > 1 else found[0]
    # A stable sort, so that boxes of one score keep the order of the model on every machine.
    order = np.argsort(-boxes["scores"], kind="stable")
    order = order[boxes["scores"][order] >= prediction.min_score]
    (height, width), place = ready.picture.shape[:2], ready.place or Place(0, 0, *ready.image.shape[-2:])
    corner, zoom = np.array([place.left, place.top] * 2), np.array([width / place.width, height / place.height] * 2)
    # From the pixels of the model's input to those of the image.
    sides = (boxes["boxes"].reshape(-1, 4)[order] - corner) * zoom
    # A box may lie entirely in the padding that the transform added.
    inside = (sides[:, 2:] >= 0).all(axis=1) & (sides[:, :2] < [width, height]).all(axis=1)
    order = order[inside][: prediction.max_boxes]
    sides = sides[inside][: prediction.max_boxes].clip(0, [width, height, width, height])
    return {"boxes": sides, "scores": boxes["scores"][order], "labels": boxes["labels"][order].astype(np.int64)}


def _table_rows(name: str, boxes: Boxes, class_names: Sequence[str]) -> list[list[str]]:
    return [
        [name, name_of(int(label), class_names), f"{score:.6f}", *(f"{side:.2f}" for side in box)]
        for box, score, label in zip(boxes["boxes"], boxes["scores"], boxes["labels"], strict=True)
    ]


def _save_drawing(ready: Ready, boxes: Boxes, class_names: Sequence[str], output: Path) -> None:
    height, width = ready.picture.shape[:2]
    least, most = (side / max(height, width) for side in _LONGEST_SIDE)
    zoom = min(max(1.0, least), most)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    scaled = cv2.resize(ready.picture, size, interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR)
    drawn = draw_predicted_boxes(scaled, (height, width), boxes, class_names)
    path = output / DRAWN / f"{ready.input.stem}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))[1].tobytes()
    save_whole(path, lambda file: file.write(encoded))
