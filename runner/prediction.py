"""What an experiment says about the use of its model on images that have no target: one of three kinds."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.callbacks.class_names import check_names
from assay.callbacks.drawings.pictures import Channels
from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY, OUTPUT_KEY

from .images import check_max_value, read_image

Reader = Callable[[Path], np.ndarray]
Transform = Callable[..., dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What all kinds have in common.

    Attributes:
        task: what the kind is of.
        batch_size: images, or tiles, at a time, where the user does not say.
        output_key: which output of the model is used.
        input_key: which of the model's inputs the images, [N, C, H, W], are; of several, the others need a default.
    """

    task: ClassVar[str]
    batch_size: ClassVar[int]
    output_key: str = OUTPUT_KEY
    input_key: str = IMAGE_KEY


@dataclass(frozen=True, kw_only=True)
class ClassPrediction(Prediction):
    """Images get a class, or several labels, with probabilities; the output is logits [N, C].

    Attributes:
        class_names: one an output; a single one, [N] or [N, 1], is the probability of "yes" and named by itself.
        transform: an albumentations transform without chance, from what ``read`` returns to a tensor [C, H, W], of
            one size if images are to share a batch.
        multilabel: whether each class stands for itself (sigmoid), or one is chosen of all (softmax).
        read: returns an image file as [H, W, channels] uint8; it raises ``BadImageError``.
    """

    task: ClassVar[str] = "classification"
    batch_size: ClassVar[int] = 32
    class_names: Sequence[str]
    transform: Transform
    multilabel: bool = False
    read: Reader = read_image

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_names(self.class_names))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [N, C] of logits.

        Raises:
            UsageError: the output has another number of classes.
        """
        logits = logits.float().reshape(len(logits), -1)
        if logits.shape[1] != len(self.class_names):
            raise UsageError(
                f"class_names must have one name an output: the model's {self.output_key!r} has "
                f"{logits.shape[1]}, got {len(self.class_names)}."
            )
        return logits.sigmoid() if self.multilabel or logits.shape[1] == 1 else logits.softmax(dim=1)


@dataclass(frozen=True, kw_only=True)
class MaskPrediction(Prediction):
    """Every pixel gets a class, or yes and no; the output is logits [N, C, H, W] in the size that the model is given.

    The mask has the size of the image as it is shown, whatever the scale: probabilities are interpolated.

    Attributes:
        mean: of the images' normalization ``(x - mean) / std`` from the range 0 to 1, one number or one a channel.
        std: likewise.
        scale: what the sides of images are multiplied by, as in training; by windows, so that any image fits.
        transform: in place of these three, the albumentations transform of validation, from an image [H, W, 3] uint8 to
            a tensor [C, h, w]. It may resize and pad the image as a whole, and must neither crop nor turn it.
        threshold: of one channel: the probability from which on a pixel is 255 in the mask, and not 0.
        palette: of several channels: colours of the classes [C, 3], uint8, by which a mask of class numbers is shown;
            None: ``class_colours``.
        tile: side of the tiles that images are cut to, in pixels of what the model is given; None: 512, and of what
            ``transform`` returns nothing is cut.
        overlap: of neighbouring tiles, in pixels; None: a quarter of the side.
        divisor: what the sides of an image that the model is given must be multiples of; an image that ``transform``
            returns and that is not cut is given as it is.
        max_value: the value that is white in images of more than 8 bits, see ``read_image``.

    Raises:
        UsageError: ``scale`` or ``max_value`` is not greater than 0; ``transform`` is given beside what it replaces.
    """

    task: ClassVar[str] = "segmentation"
    batch_size: ClassVar[int] = 4
    mean: Channels = 0.0
    std: Channels = 1.0
    scale: float = 1.0
    transform: Transform | None = None
    threshold: float = 0.5
    palette: np.ndarray | None = None
    tile: int | None = None
    overlap: int | None = None
    divisor: int = 32
    max_value: float | None = None

    def __post_init__(self) -> None:
        check_max_value(self.max_value)
        if not 0 < self.scale < math.inf:
            raise UsageError(f"scale must be greater than 0, got {self.scale}.")
        if self.transform is not None and not _is_default(self.mean, 0.0, self.std, 1.0, self.scale, 1.0):
            raise UsageError(
                "MaskPrediction takes a transform, or else mean, std and scale: the transform does it all."
            )

    def normalize(self, images: Tensor) -> Tensor:
        """Return images [N, H, W, C] as the model takes them, [N, C, H, W] float32: uint8, or of ``transform``."""
        if self.transform is not None:
            return images.permute(0, 3, 1, 2).contiguous()
        mean, std = (torch.as_tensor(of, dtype=torch.float32, device=images.device) for of in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits, [N, C, H, W]."""
        logits = logits.float()
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


def _is_default(*values: Any) -> bool:
    """Whether each first of two is the second."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return all(np.array_equal(np.unique(np.asarray(value)), [default]) for value, default in pairs)


@dataclass(frozen=True, kw_only=True)
class BoxPrediction(Prediction):
    """Objects get boxes; the output is N dicts of ``boxes`` [P, 4], ``labels`` [P] and ``scores`` [P].

    Boxes are left, top, right, bottom in pixels of the image that the model is given.

    Attributes:
        class_names: one a label, from label 0 on; torchvision's detectors keep 0 for what is no object.
        transform: an albumentations transform without chance, from what ``read`` returns to a tensor [C, h, w]. It may
            resize and pad the image, and boxes are put back; it must neither crop nor turn it.
        min_score: boxes below it are left out.
        max_boxes: the most that are kept of an image, those of the highest scores.
        read: returns an image file as [H, W, channels] uint8; it raises ``BadImageError``.
    """

    task: ClassVar[str] = "detection"
    batch_size: ClassVar[int] = 4
    class_names: Sequence[str]
    transform: Transform
    min_score: float = 0.5
    max_boxes: int = 300
    read: Reader = read_image

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_names(self.class_names))
