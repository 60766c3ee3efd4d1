"""Apply a transform to an image, and find where the image lies in the result."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from albumentations.core.composition import BaseCompose
from albumentations.core.transforms_interface import BasicTransform
from torch import Tensor

from assay.callbacks.errors import UsageError

from ..data.files.image_errors import bad_image
from ..experiment.prediction_spec import Transform

_FAR = 2.0**20  # added to coordinates in the second pass, to distinguish them from what a transform fills in


@dataclass(frozen=True)
class Place:
    """The part of a transformed image that shows the whole original, in pixels."""

    top: int
    left: int
    height: int
    width: int


def apply_transform(transform: Transform, picture: np.ndarray, path: str | os.PathLike[str]) -> Tensor:
    """Return an image after the transform, [C, h, w].

    Raises:
        BadImageError: the transform raises any error.
    """
    try:
        return torch.as_tensor(transform(image=picture)["image"])
    except Exception as error:
        height, width = picture.shape[:2]
        reason = f"its {width} x {height} pixels do not go through the transform: {type(error).__name__}: {error}"
        raise bad_image(path, reason) from error


class Placing:
    """Finds where images lie after a transform, once per size.

    It passes pixel coordinates through the transform as a mask. A transform that is not albumentations' is assumed to
    resize, and nothing else.

    Args:
        transform: a deterministic transform.
    """

    def __init__(self, transform: Transform):
        self.transform = transform
        self._known: dict[tuple[int, ...], Place] = {}

    def __call__(self, picture: np.ndarray, image: Tensor) -> Place:
        """Return where a picture lies in the transformed image.

        Args:
            picture: [H, W, C].
            image: [C, h, w], the result of the transform.

        Raises:
            UsageError: the transform crops, turns or flips it.
        """
        if not isinstance(self.transform, BaseCompose | BasicTransform):
            return Place(0, 0, *image.shape[-2:])
        size = picture.shape[:2]
        if size not in self._known:
            rows, columns = (self._locate_along(picture, axis) for axis in (0, 1))
            self._known[size] = Place(rows[0], columns[0], rows[1], columns[1])
        return self._known[size]

    def _locate_along(self, picture: np.ndarray, axis: int) -> tuple[int, int]:
        """Return where the image begins along an axis, and its length there."""
        size = picture.shape[:2]
        line = np.arange(1, size[axis] + 1, dtype=np.float32)
        near = np.broadcast_to(line[:, None] if axis == 0 else line, size).copy()
        # Coordinates grow by _FAR between the two passes; padding with a constant stays the same.
        first, second = (self._transform_mask(picture, near + far) for far in (0.0, _FAR))
        shown = second - first > _FAR / 2
        across = np.where(shown, first, 0).max(axis=1 - axis)
        if not shown.any() or not _is_constant_across(first, shown, axis):
            raise UsageError(f"the transform must neither turn nor distort images: {self._transform_name()} does.")
        return self._find_run(across, size[axis])

    def _transform_mask(self, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
        found = np.asarray(self.transform(image=picture, mask=mask)["mask"])
        return found.reshape(max(found.shape[:2], found.shape[-2:], key=np.prod))

    def _find_run(self, across: np.ndarray, count: int) -> tuple[int, int]:
        """Return the range in which the coordinates rise over the whole image."""
        # Padding by reflection shows coordinates too, but they fall there.
        end = int(across.argmax())
        start = end
        while start > 0 and 0 < across[start - 1] <= across[start]:
            start -= 1
        while end + 1 < len(across) and across[end + 1] == across[end]:
            end += 1
        step = max(1.0, (across[end] - across[start]) / max(1, end - start))
        if (across > 0).sum() == 1:  # resized to a single pixel
            step = count
        if across[start] > 1 + step or across[end] < count - step:
            raise UsageError(
                f"the transform must show images as a whole: of {count} rows or columns, "
                f"{self._transform_name()} keeps {int(across[start])} to {int(across[end])}."
            )
        return start, end - start + 1

    def _transform_name(self) -> str:
        parts = getattr(self.transform, "transforms", [self.transform])
        return " and ".join(type(part).__name__ for part in parts)


def _is_constant_across(values: np.ndarray, shown: np.ndarray, axis: int) -> bool:
    """Whether a coordinate does not change along the other axis, where the image is shown."""
    least = np.where(shown, values, np.inf).min(axis=1 - axis)
    most = np.where(shown, values, -np.inf).max(axis=1 - axis)
    is_shown = shown.any(axis=1 - axis)
    return bool((most[is_shown] - least[is_shown] < 1).all())
