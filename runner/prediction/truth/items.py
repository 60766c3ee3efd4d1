"""Prepare images with their truth as the prediction of an experiment prepares images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import IMAGE_KEY, TARGET_KEY

from ...data.augmented import Augmented, Items
from ...data.readers.item_list import ItemList
from ...experiment.prediction_spec import ClassPrediction, MaskPrediction, Prediction
from ...recipe.losses import LossTerm

_OVERRIDE = "give the experiment a method get_truth_loader"


def as_validated(items: ItemList, prediction: Prediction, losses: Sequence[LossTerm]) -> Dataset[dict[str, Any]]:
    """Return a data set of images that are read and transformed as ``prediction`` says, with their targets.

    Args:
        items: see ``Experiment.get_truth_loader``.
        prediction: of the experiment.
        losses: of the experiment; they name the target.

    Raises:
        UsageError: it cannot be told how validation prepares images.
    """
    target = _target_key(losses)
    if isinstance(prediction, ClassPrediction):

        def read(index: int) -> dict[str, Any]:
            item = dict(items[index])
            return {**item, IMAGE_KEY: prediction.read(Path(item[IMAGE_KEY])), target: item.pop(TARGET_KEY)}

        return Augmented(Items(len(items), read), _as_augmentation(prediction.transform))
    if isinstance(prediction, MaskPrediction) and prediction.transform is not None and target == TARGET_KEY:
        keys = {"image": IMAGE_KEY, "mask": TARGET_KEY}
        return Augmented(items, _as_augmentation(prediction.transform), keys=keys, max_value=prediction.max_value)
    raise UsageError(f"--truth: it is not known how this experiment prepares a {prediction.task}: {_OVERRIDE}.")


def _target_key(losses: Sequence[LossTerm]) -> str:
    targets = {term.target for term in losses}
    if TARGET_KEY in targets:
        return TARGET_KEY
    if len(targets) == 1:
        return targets.pop()
    raise UsageError(f"--truth: which of the targets {listing(targets)} the truth is, is not known: {_OVERRIDE}.")


def _as_augmentation(transform: Any) -> Any:
    return transform if hasattr(transform, "set_random_seed") else _Plain(transform)


class _Plain:
    """A transform of the user's own, which draws nothing."""

    def __init__(self, transform: Any):
        self.transform = transform

    def __call__(self, **parts: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.transform(**parts)
        return found

    def set_random_seed(self, seed: int) -> None:
        """Do nothing."""
