"""Handwritten digits: 1,797 real grey images of 8 x 8 pixels in ten classes, shipped inside scikit-learn.

Source: the test set of the UCI "Optical Recognition of Handwritten Digits" data, in scikit-learn's copy. Every
fifth image is held out for validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import albumentations as A
import cv2
import numpy as np
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader

from assay.callbacks import classification_diagnostics
from assay.runner import Augmented, Experiment, read_image
from assay.runner.prediction import ClassPrediction, Prediction

CLASS_NAMES = [str(digit) for digit in range(10)]
MEAN, STD = 0.305, 0.376


@dataclass(kw_only=True)
class Digits(Experiment):
    """A small convolutional net that learns to read digits in half a minute."""

    epochs: int = 15
    batch_size: int = 64
    lr: float = 3e-3
    monitor: list[str] = field(default_factory=lambda: ["valid/accuracy:max", "valid/loss:min"])
    width: int = 32
    """Channels of the first layer."""

    unused_fields: ClassVar[Sequence[str]] = ("data_dir",)

    def get_loaders(self) -> dict[str, DataLoader[Any]]:
        items = load_items()
        # Every fifth image, not a random fifth: the split is the same in every run, whatever the seed.
        held_out = np.arange(len(items)) % 5 == 0
        train = [item for item, out in zip(items, held_out, strict=True) if not out]
        valid = [item for item, out in zip(items, held_out, strict=True) if out]
        parts = self.marked({"train": train, "valid": valid}, CLASS_NAMES)
        light = [A.Affine(translate_px=(-1, 1), rotate=(-10, 10), scale=(0.9, 1.1), p=0.8)]
        return {
            "train": self.make_loader(Augmented(parts["train"], to_tensor(light), seed=self.seed), shuffle=True),
            "valid": self.make_loader(Augmented(parts["valid"], to_tensor([]), seed=self.seed)),
        }

    def get_model(self) -> nn.Module:
        return DigitNet(self.width)

    def get_callbacks(self) -> list[Any]:
        return classification_diagnostics(self.diagnostics, class_names=CLASS_NAMES, mean=MEAN, std=STD)

    def get_prediction(self) -> Prediction:
        """Accept pictures of one white digit on black, in any size."""
        # Area means, because the source made its 8 x 8 pixels by counting within blocks of a larger scan.
        transform = to_tensor([A.Resize(8, 8, interpolation=cv2.INTER_AREA)])
        return ClassPrediction(class_names=CLASS_NAMES, transform=transform, read=partial(read_image, grey=True))


class DigitNet(nn.Module):
    """Four convolutions and a linear layer: images [N, 1, 8, 8] to {"logits": [N, 10]}."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            *_block(1, width),
            *_block(width, width),
            nn.MaxPool2d(2),
            *_block(width, 2 * width),
            *_block(2 * width, 2 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, len(CLASS_NAMES)),
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.layers(image)}


def _block(channels_in: int, channels_out: int) -> list[nn.Module]:
    # No bias: the batch normalization that follows would subtract it again.
    convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]


def load_items() -> list[dict[str, Any]]:
    """Return all images, [8, 8, 1] uint8, with target and id, in the order of the source."""
    digits = load_digits()
    # The source's values reach from 0 to 16.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return [
        {"image": image, "target": int(target), "sample_id": f"digit-{index:04d}"}
        for index, (image, target) in enumerate(zip(images, digits.target, strict=True))
    ]


def to_tensor(transforms: list[Any]) -> A.Compose:
    """Return the transforms, followed by normalization and the change to a tensor [C, H, W]."""
    return A.Compose([*transforms, A.Normalize(MEAN, STD), A.ToTensorV2()])
