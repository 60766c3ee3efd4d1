"""What is done to crops by chance: there is no up in a picture from above."""

from typing import Any

from assay.runner import make_transform as make_general_transform

LEVELS = ("none", "light", "medium", "hard")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_transform(level: str = "none") -> Any:
    """Return the transform of images [H, W, 3] and masks [H, W], uint8; at its end both are tensors.

    Pixels of a mask that come from outside of the crop are ``IGNORED``.

    Args:
        level: one of ``LEVELS``; see ``assay.runner.make_transform``.
    """
    return make_general_transform(level, symmetry="square", mean=MEAN, std=STD, masks=True)
