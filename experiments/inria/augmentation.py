"""What is done to crops by chance, at four levels, each of which holds those before it."""

from typing import Any

import albumentations as A
import cv2

from .tiles import IGNORED

LEVELS = ("none", "light", "medium", "hard")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_transform(level: str = "none") -> A.Compose:
    """Return the transform of images [H, W, 3] and masks [H, W], uint8; at its end both are tensors.

    ========== ==========================================================================
    level      what happens
    ========== ==========================================================================
    ``none``   nothing
    ``light``  flips and quarter turns: there is no up in a picture from above
    ``medium`` also turns by any angle, scales from 0.8 to 1.25, and changes of colour
    ``hard``   also bends, blur, noise, compression and holes
    ========== ==========================================================================

    Pixels of a mask that come from outside of the crop are ``IGNORED``.

    Args:
        level: one of ``LEVELS``.
    """
    count = LEVELS.index(level) + 1
    steps = [step for part in (_none, _light, _medium, _hard)[:count] for step in part()]
    return A.Compose([*steps, A.Normalize(MEAN, STD), A.ToTensorV2()])


def _none() -> list[Any]:
    return []


def _light() -> list[Any]:
    return [A.SquareSymmetry(p=1.0)]


def _medium() -> list[Any]:
    outside: dict[str, Any] = {"border_mode": cv2.BORDER_CONSTANT, "fill": 128, "fill_mask": IGNORED}
    return [
        A.Affine(scale=(0.8, 1.25), rotate=(-45, 45), translate_percent=(-0.06, 0.06), p=0.5, **outside),
        A.RandomBrightnessContrast(p=0.5),
        A.HueSaturationValue(p=0.3),
    ]


def _hard() -> list[Any]:
    return [
        A.GridDistortion(distort_limit=0.2, p=0.2),
        A.OneOf([A.GaussianBlur(), A.MotionBlur(blur_limit=5), A.GaussNoise(), A.ImageCompression()], p=0.4),
        A.RandomGamma(p=0.3),
        A.CoarseDropout(num_holes_range=(1, 4), fill=128, p=0.3),
    ]
