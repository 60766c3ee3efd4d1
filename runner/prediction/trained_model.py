"""The model of a run in Python: ``load_model`` returns it, and it takes images."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.callbacks.errors import UsageError, described

from ..data.files.images import read_image
from ..experiment.base import Experiment
from ..experiment.prediction_spec import BoxPrediction, ClassPrediction, MaskPrediction, Prediction
from .batches import Ready
from .boxes import group_by_image, select_boxes
from .classes import mean_probabilities
from .inputs import Input
from .models import Models
from .scale import ArrayImage, ScaledImage
from .transform import Placing, apply_transform

Picture = str | os.PathLike[str] | np.ndarray


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with what belongs to it. Called with images, it predicts as ``assay predict`` does.

    Attributes:
        experiment: of the run, with the fields that it was trained with.
        prediction: how the experiment predicts.
        epoch: of the weights.
        models: what runs it.
    """

    experiment: Experiment
    prediction: Prediction
    epoch: int
    models: Models

    @property
    def module(self) -> Any:
        """The module in evaluation mode, which takes tensors; of several models, a dict of them by name."""
        return self.models.module

    @property
    def task(self) -> str:
        """``classification``, ``segmentation`` or ``detection``."""
        return self.prediction.task

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, by class number; none where the experiment does not name them."""
        return list(getattr(self.prediction, "class_names", ()))

    @property
    def transform(self) -> Callable[[np.ndarray], Tensor]:
        """What makes an image [H, W, C] uint8 a tensor [C, h, w] as the module takes it."""
        transform: Any = getattr(self.prediction, "transform", None)
        if transform is None and isinstance(self.prediction, MaskPrediction):
            return partial(_scaled_and_normalized, self.prediction)
        return lambda picture: apply_transform(transform, picture, "image")

    def __call__(self, images: Picture | Sequence[Picture]) -> Any:
        """Return what the model finds in an image, or in each of several.

        It is, by task:

        - classification: the probability of each class by its name,
        - segmentation: the mask in the image's own size, [H, W] uint8: class numbers, or 0 and 255 for a single class,
        - detection: ``boxes`` [P, 4] in pixels of the image, ``scores`` [P] and ``labels`` [P], best first.

        Args:
            images: paths, or arrays [H, W, C] uint8 as ``read_image`` returns them; one, or a list of them.

        Raises:
            BadImageError: an image cannot be read.
            UsageError: an array is no such image.
        """
        single = isinstance(images, str | os.PathLike | np.ndarray)
        given: Any = [images] if single else images
        pictures = (self._read(image) for image in given)
        found = list(self._predict(pictures))
        return found[0] if single else found

    def _read(self, image: Picture) -> np.ndarray:
        if isinstance(image, str | os.PathLike):
            return np.asarray(getattr(self.prediction, "read", read_image)(Path(image)))
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise UsageError(f"an image must be a path or an array [H, W, channels] uint8, got {described(image)}.")
        return image

    def _predict(self, pictures: Iterator[np.ndarray]) -> Iterator[Any]:
        if isinstance(self.prediction, MaskPrediction):
            for picture in pictures:
                yield self._mask(self.prediction, picture)
            return
        for part in _batches(self._ready(pictures), self.prediction.batch_size):
            batch = torch.stack([ready.image for ready in part])
            if isinstance(self.prediction, ClassPrediction):
                for row in mean_probabilities(self.models, self.prediction, batch).tolist():
                    yield dict(zip(self.prediction.class_names, row, strict=True))
            elif isinstance(self.prediction, BoxPrediction):
                found = group_by_image(self.models.outputs(batch), self.models, batch.shape)
                for ready, boxes in zip(part, found, strict=True):
                    yield select_boxes(boxes, ready, self.prediction)

    def _ready(self, pictures: Iterator[np.ndarray]) -> Iterator[Ready]:
        placing = Placing(self.prediction.transform) if isinstance(self.prediction, BoxPrediction) else None
        transform = self.transform
        for picture in pictures:
            image = transform(picture)
            yield Ready(_IN_MEMORY, picture, image, None if placing is None else placing(picture, image))

    def _mask(self, prediction: MaskPrediction, picture: np.ndarray) -> np.ndarray:
        from .masks import predicted_bands, tile_and_overlap, to_mask  # GDAL and toolbelt are slow to import

        tile, overlap = tile_and_overlap(prediction, None, None)
        bands = predicted_bands(
            self.models, prediction, ArrayImage(picture), _IN_MEMORY.path, tile=tile, overlap=overlap,
            batch_size=prediction.batch_size, placing=Placing(prediction.transform) if prediction.transform else None,
        )  # fmt: skip
        return to_mask(torch.cat(list(bands), dim=1), prediction.threshold)


_IN_MEMORY = Input(Path("image"), "image", "image")


def _batches(images: Iterator[Ready], size: int) -> Iterator[list[Ready]]:
    """Yield consecutive images of one shape, at most ``size``."""
    for _, same in groupby(images, key=lambda ready: ready.image.shape):
        while part := list(islice(same, size)):
            yield part


def _scaled_and_normalized(prediction: MaskPrediction, picture: np.ndarray) -> Tensor:
    image = ArrayImage(picture)
    scaled = image if prediction.scale == 1 else ScaledImage(image, prediction.scale)
    pixels = scaled.read(0, 0, scaled.height, scaled.width)
    return prediction.normalize(torch.from_numpy(pixels[None].copy()))[0]
