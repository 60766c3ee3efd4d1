"""How an experiment's model predicts images without targets: classes, masks or boxes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay.callbacks.drawings.canvas.images import Channels
from assay.callbacks.errors import UsageError
from assay.callbacks.keys import IMAGE_KEY, OUTPUT_KEY
from assay.callbacks.support.class_names import check_names

from ..data.files.image_errors import check_max_value
from ..data.files.images import read_image

if TYPE_CHECKING:
    from ..data.readers.masks.mask_classes import MaskClasses

Reader = Callable[[Path], np.ndarray]
Transform = Callable[..., dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What all kinds of prediction have in common.

    Attributes:
        task: name of the task.
        batch_size: default number of images, or tiles, per batch.
        output_key: the output of the model to use.
        input_key: the model's input that takes the images, [N, C, H, W]; any other input needs a default.
    """

    task: ClassVar[str]
    batch_size: ClassVar[int]
    output_key: str = OUTPUT_KEY
    input_key: str = IMAGE_KEY


@dataclass(frozen=True, kw_only=True)
class ClassPrediction(Prediction):
    """Predicts a class, or several labels, per image, with probabilities; the output is logits [N, C].

    Attributes:
        class_names: one per output; a single output, [N] or [N, 1], is the probability of the class that is named.
        transform: a deterministic albumentations transform from what ``read`` returns to a tensor [C, H, W]; images of
            one size share a batch.
        multilabel: whether classes are independent (sigmoid) or exclusive (softmax).
        read: reads an image file as [H, W, channels] uint8, or raises ``BadImageError``.
    """

    task: ClassVar[str] = "classification"
    batch_size: ClassVar[int] = 32
    class_names: Sequence[str]
    transform: Transform
    multilabel: bool = False
    read: Reader = read_image

    def __post_init__(self) -> None:
        # The dataclass is frozen, and forbids plain assignment.
        object.__setattr__(self, "class_names", check_names(self.class_names))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities [N, C] of logits.

        Raises:
            UsageError: the output has another number of classes.
        """
        # In float32, as a softmax in half precision loses the small probabilities; a single output may be [N].
        logits = logits.float().reshape(len(logits), -1)
        if logits.shape[1] != len(self.class_names):
            raise UsageError(
                f"class_names must have one name per output: the model's {self.output_key!r} has "
                f"{logits.shape[1]}, got {len(self.class_names)}."
            )
        return logits.sigmoid() if self.multilabel or logits.shape[1] == 1 else logits.softmax(dim=1)


@dataclass(frozen=True, kw_only=True)
class MaskPrediction(Prediction):
    """Predicts a class, or yes or no, per pixel; the output is logits [N, C, H, W] in the size of the input.

    The mask has the size of the upright image, whatever the scale: probabilities are interpolated.

    Attributes:
        class_names: one per class number of the mask, for what names them; of a single channel, of 0 and 1.
        mean: of the normalization ``(x - mean) / std`` of images from 0 to 1; one number, or one per channel.
        std: of the same normalization.
        scale: factor for the sides of images, as in training; applied by windows, so that images of any size fit.
        transform: in place of these three, the albumentations transform of validation, from an image [H, W, 3] uint8 to
            a tensor [C, h, w]. It may resize and pad the image as a whole, and must neither crop nor turn it.
        threshold: for one channel: pixels with at least this probability are 255 in the mask, others 0.
        palette: for several channels: colours of the classes, [C, 3] uint8, to display the class numbers; None:
            ``class_colours``.
        tile: side of the tiles that images are cut into, in pixels of the model's input; None: 512, or with
            ``transform`` no tiles.
        overlap: of neighbouring tiles, in pixels; None: a quarter of the side.
        divisor: sides of the model's input are padded to multiples of this, except for an image that ``transform``
            returns and that is not cut.
        max_value: the value that is white in images of more than 8 bits, see ``read_image``.
        masks: what the values of mask files mean, for those of a truth without a file that names the classes; None:
            it is found by what they hold.

    Raises:
        UsageError: ``scale`` or ``max_value`` is not greater than 0; ``transform`` is given beside what it replaces.
    """

    task: ClassVar[str] = "segmentation"
    batch_size: ClassVar[int] = 4
    class_names: Sequence[str] = ()
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
    masks: "MaskClasses | None" = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", check_names(self.class_names) if self.class_names else ())
        check_max_value(self.max_value)
        if not 0 < self.scale < math.inf:
            raise UsageError(f"scale must be greater than 0, got {self.scale}.")
        replaced = ((self.mean, 0.0), (self.std, 1.0), (self.scale, 1.0))
        are_defaults = all(np.all(np.asarray(value) == default) for value, default in replaced)
        if self.transform is not None and not are_defaults:
            raise UsageError(
                "MaskPrediction takes a transform, or else mean, std and scale: the transform does it all."
            )

    def normalize(self, images: Tensor) -> Tensor:
        """Return images [N, H, W, C], uint8 or from ``transform``, as the model takes them, [N, C, H, W] float32."""
        # On the device: uint8 is a quarter of the bytes to send.
        if self.transform is not None:
            return images.permute(0, 3, 1, 2).contiguous()
        mean, std = (torch.as_tensor(of, dtype=torch.float32, device=images.device) for of in (self.mean, self.std))
        return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of logits, [N, C, H, W]."""
        logits = logits.float()
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)


@dataclass(frozen=True, kw_only=True)
class BoxPrediction(Prediction):
    """Predicts boxes of objects; the output is N dicts of ``boxes`` [P, 4], ``labels`` [P] and ``scores`` [P].

    Boxes are left, top, right, bottom in pixels of the model's input.

    Attributes:
        class_names: one per label, from label 0 on; torchvision's detectors reserve 0 for the background.
        transform: a deterministic albumentations transform from what ``read`` returns to a tensor [C, h, w]. It may
            resize and pad the image, which is undone for the boxes; it must neither crop nor turn it.
        min_score: boxes with lower scores are left out.
        max_boxes: how many boxes to keep per image, those with the highest scores.
        read: reads an image file as [H, W, channels] uint8, or raises ``BadImageError``.
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
