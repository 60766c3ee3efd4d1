"""Finds and checks the detections in a batch; a torchvision detector returns none while it trains."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from catalyst import dl
from torch import Tensor

from ..errors import UsageError, listing
from ..keys import pick
from .dict_batch import dict_batch

FOUND = ("boxes", "scores", "labels")
TRUE = ("boxes", "labels")

_PER_BOX = ("labels", "scores", "iscrowd")
_DRAWN = ("boxes", "labels", "scores")

_log = logging.getLogger("assay")


class Detections:
    """Recognizes batches without detections: torchvision's detectors return only losses while they train.

    Args:
        output_key: key of the detections in the batch.
        asked_by: name of the caller, for the warning.
    """

    def __init__(self, output_key: str, asked_by: str):
        self.output_key = output_key
        self.asked_by = asked_by
        self.has_warned = False

    def are_missing(self, runner: dl.IRunner) -> bool:
        """Return whether a training batch has no detections; warn once (logger ``assay``) if no loader has any."""
        batch = dict_batch(runner, self.asked_by)
        if not runner.is_train_loader or has_detections(batch, self.output_key):
            return False
        # Detectors return boxes in evaluation, so a validation loader will show something.
        follows = any(not key.startswith("train") for key in runner.loaders)
        if not follows and not self.has_warned and runner.engine.is_main_process:
            self.has_warned = True
            _log.warning(
                "%s shows nothing: the batches of loader %r hold no %r, which detectors give in evaluation alone, and "
                "there is no loader for validation.",
                self.asked_by,
                runner.loader_key,
                self.output_key,
            )
        return True


def has_detections(batch: Mapping[str, Any], key: str) -> bool:
    """Return whether a batch holds detections; None, an empty list and a missing key mean that it does not."""
    found = batch.get(key)
    return found is not None and not (isinstance(found, list | tuple) and not found)


def pick_boxes(
    batch: Mapping[str, Any], key: str, asked_by: str, names: Sequence[str]
) -> Sequence[Mapping[str, Tensor]]:
    """Return the boxes that a batch holds under a key: N dicts, one per image.

    Args:
        batch: a batch of a detector.
        key: key of the boxes in the batch.
        asked_by: name of the caller, for the error.
        names: the entries that each dict must have.

    Raises:
        UsageError: the key is missing, its value has another form, or an image has more or fewer labels than boxes.
    """
    images = pick(batch, key, asked_by)
    if not isinstance(images, list | tuple):
        raise UsageError(f"{asked_by} needs a list in {key!r}, of one dict per image, got a {type(images).__name__}.")
    for number, image in enumerate(images):
        if not isinstance(image, Mapping) or not all(name in image for name in names):
            got = listing(image) if isinstance(image, Mapping) else f"a {type(image).__name__}"
            raise UsageError(
                f"{asked_by} needs {listing(names)} of each image in {key!r}, got {got} of image {number}."
            )
        _check_counts(image, number, key, asked_by)
    return images


def _check_counts(image: Mapping[str, Tensor], number: int, key: str, asked_by: str) -> None:
    # The boxes of all images are joined, where those of one image would take the labels of another.
    boxes = image["boxes"].numel() // 4
    for name in _PER_BOX:
        part = image.get(name)
        if isinstance(part, Tensor) and part.numel() != boxes:
            raise UsageError(
                f"{asked_by} needs one of {name!r} per box in {key!r}, got {part.numel()} for {boxes} boxes of image "
                f"{number}."
            )


def without_masks(part: Any) -> Any:
    """Return a part of a batch, and of detections only boxes, labels and scores."""
    # Only these are drawn; keeping the masks of Mask R-CNN would copy many images of full size.
    if not isinstance(part, list | tuple) or not all(isinstance(one, Mapping) and "boxes" in one for one in part):
        return part
    return [{name: one[name] for name in _DRAWN if name in one} for one in part]
