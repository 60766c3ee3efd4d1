"""What an experiment says about the use of its model on images that have no target: one of three kinds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.callbacks.drawings.pictures import Channels
from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY, OUTPUT_KEY

from .images import read_image

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
    """Every pixel gets a class, or yes and no; the output is logits [N, C, H, W] in the size of the images.

    Attributes:
        mean: of the images' normalization ``(x - mean) / std`` from the range 0 to 1, one number or one a channel.
        std: likewise.
        threshold: of one channel: the probability from which on a pixel is 255 in the mask, and not 0.
        palette: of several channels: colours of the classes [C, 3], uint8, by which a mask of class numbers is shown;
            None: ``class_colours``.
        tile: side of the tiles that images are cut to, in pixels.
        overlap: of neighbouring tiles, in pixels.
        divisor: what the sides of an image that the model is given must be multiples of.
    """

    task: ClassVar[str] = "segmentation"
    batch_size: ClassVar[int] = 4
    mean: Channels = 0.0
    std: Channels = 1.0
    threshold: float = 0.5
    palette: np.ndarray | None = None
    tile: int = 512
    overlap: int = 128
    divisor: int = 32

    def normalize(self, images: Tensor) -> Tensor:
        """Return images [N, H, W, 3] uint8 as the model takes them, [N, 3, H, W] float32."""
        mean, std = (torch.as_tensor(of, dtype=torch.float32, device=images.device) for of in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits, [N, C, H, W]."""
        logits = logits.float()
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


@dataclass(frozen=True, kw_only=True)
class BoxPrediction(Prediction):
    """Objects get boxes; the output is N dicts of ``boxes`` [P, 4], ``labels`` [P] and ``scores`` [P].

    Boxes are left, top, right, bottom in pixels of the image that the model is given.

    Attributes:
        class_names: one a label, from label 0 on; torchvision's detectors keep 0 for what is no object.
        transform: an albumentations transform without chance, from an image [H, W, 3] uint8 to a tensor [C, h, w]. It
            may resize the image, and must neither crop nor pad it: boxes are scaled back by H / h and W / w.
        min_score: boxes below it are left out.
        max_boxes: the most that are kept of an image, those of the highest scores.
    """

    task: ClassVar[str] = "detection"
    batch_size: ClassVar[int] = 4
    class_names: Sequence[str]
    transform: Transform
    min_score: float = 0.5
    max_boxes: int = 300
