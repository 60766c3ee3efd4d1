"""What detectors give: boxes in evaluation, and while they train none."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from catalyst import dl
from torch import Tensor

from .dict_batch import dict_batch
from .errors import UsageError, listing
from .keys import pick

FOUND = ("boxes", "scores", "labels")
TRUE = ("boxes", "labels")

_DRAWN = ("boxes", "labels", "scores")

_log = logging.getLogger("assay")


class Detections:
    """Tells which batches hold detections: torchvision's detectors give losses alone while they train.

    Args:
        output_key: of the batch.
        asked_by: who asks; it opens the warning.
    """

    def __init__(self, output_key: str, asked_by: str):
        self.output_key = output_key
        self.asked_by = asked_by
        self.has_said = False

    def are_missing(self, runner: dl.IRunner) -> bool:
        """Return whether a batch in training has none; say so once (logger ``assay``) where no other loader follows."""
        batch = dict_batch(runner, self.asked_by)
        if not runner.is_train_loader or has_detections(batch, self.output_key):
            return False
        follows = any(not key.startswith("train") for key in runner.loaders)
        if not follows and not self.has_said and runner.engine.is_main_process:
            self.has_said = True
            _log.warning(
                "%s shows nothing: the batches of loader %r hold no %r, which detectors give in evaluation alone, and "
                "there is no loader for validation.",
                self.asked_by,
                runner.loader_key,
                self.output_key,
            )
        return True


def has_detections(batch: Mapping[str, Any], key: str) -> bool:
    """Return whether a batch in training holds detections; None and an empty list stand for none, as no key does."""
    found = batch.get(key)
    return found is not None and not (isinstance(found, list | tuple) and not found)


def pick_boxes(
    batch: Mapping[str, Any], key: str, asked_by: str, names: Sequence[str]
) -> Sequence[Mapping[str, Tensor]]:
    """Return what a batch holds under a key: N dicts, one an image.

    Args:
        batch: of a detection.
        key: of the batch.
        asked_by: who asks; it opens the error.
        names: that each dict must have.

    Raises:
        UsageError: the key is missing, or what it holds has another form.
    """
    images = pick(batch, key, asked_by)
    if not isinstance(images, list | tuple):
        raise UsageError(f"{asked_by} needs a list in {key!r}, of a dict an image, got a {type(images).__name__}.")
    for number, image in enumerate(images):
        if not isinstance(image, Mapping) or not all(name in image for name in names):
            got = listing(image) if isinstance(image, Mapping) else f"a {type(image).__name__}"
            raise UsageError(
                f"{asked_by} needs {listing(names)} of each image in {key!r}, got {got} of image {number}."
            )
    return images


def without_masks(part: Any) -> Any:
    """Return boxes, labels and scores of each image of a detection, which are all that is drawn; others as they are."""
    if not isinstance(part, list | tuple) or not all(isinstance(one, Mapping) and "boxes" in one for one in part):
        return part
    return [{name: one[name] for name in _DRAWN if name in one} for one in part]
