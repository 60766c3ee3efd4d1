"""Test-time augmentation: make views of images, and turn predictions for them back."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from assay.callbacks.errors import UsageError

_Function = Callable[[Tensor], Tensor]
_Way = tuple[bool, bool, bool]  # a view is transposed, after it is flipped left to right and flipped upside down


class Views:
    """The views of one kind of test-time augmentation, made by toolbelt's functions.

    ``none`` is the image alone, ``flips`` the image and its two mirror images, ``d4`` all eight symmetries of a square.

    Args:
        kind: one of ``TTA``.

    Example:
        >>> views = Views("flips")
        >>> views.count, views.augment(torch.zeros(1, 3, 8, 8)).shape
        (3, torch.Size([3, 3, 8, 8]))
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.ways = _WAYS[kind]
        self._augment, self._deaugment = _toolbelt_functions(kind)

    @property
    def count(self) -> int:
        """The number of views."""
        return len(self.ways)

    def augment(self, images: Tensor) -> Tensor:
        """Return all views, [views * N, C, H, W]; the first view of all images comes first.

        Raises:
            UsageError: ``d4`` is requested for images that are not square.
        """
        if self.kind == "d4" and images.shape[2] != images.shape[3]:
            raise UsageError(f"--tta d4 needs square images, got {images.shape[2]} x {images.shape[3]}: choose flips.")
        return self._augment(images)

    def mean_of_labels(self, values: Tensor) -> Tensor:
        """Return the mean over views, [N, C], of [views * N, C]."""
        # Not with toolbelt's d4_labels_deaugment: it uses the seventh view twice, and the sixth not at all.
        return torch.stack(values.chunk(self.count)).mean(dim=0)

    def mean_of_masks(self, values: Tensor) -> Tensor:
        """Return the mean over views after turning them back, [N, C, H, W], of [views * N, C, H, W]."""
        return self._deaugment(values)

    def boxes(self, found: Sequence[Mapping[str, Tensor]], height: int, width: int) -> list[list[dict[str, Tensor]]]:
        """Return for each image what was found in each view, with the boxes turned back.

        Args:
            found: per view and image, in the order of ``augment``: ``boxes`` [P, 4] and other entries.
            height: of the images.
            width: of the images.
        """
        images = len(found) // self.count
        return [
            [_turn_back(found[view * images + index], way, height, width) for view, way in enumerate(self.ways)]
            for index in range(images)
        ]


def _turn_back(found: Mapping[str, Tensor], way: _Way, height: int, width: int) -> dict[str, Tensor]:
    # The inverse of a view, in the opposite order; the smaller side stays first in each pair.
    transposed, flipped_x, flipped_y = way
    left, top, right, bottom = found["boxes"].reshape(-1, 4).unbind(dim=1)
    if transposed:
        left, top, right, bottom = top, left, bottom, right
    if flipped_x:
        left, right = width - right, width - left
    if flipped_y:
        top, bottom = height - bottom, height - top
    return {**found, "boxes": torch.stack([left, top, right, bottom], dim=1)}


def _toolbelt_functions(kind: str) -> tuple[_Function, _Function]:
    if kind == "none":
        return _return_unchanged, _return_unchanged
    from pytorch_toolbelt.inference import tta  # slow to import, and not needed without augmentation

    return getattr(tta, f"{kind}_image_augment"), getattr(tta, f"{kind}_image_deaugment")


def _return_unchanged(values: Tensor) -> Tensor:
    return values


# In the order of toolbelt's functions, which make the views.
_WAYS: dict[str, Sequence[_Way]] = {
    "none": [(False, False, False)],
    "flips": [(False, False, False), (False, True, False), (False, False, True)],
    "d4": [
        (False, False, False), (True, False, True), (False, True, True), (True, True, False),
        (True, False, False), (False, True, False), (True, True, True), (False, False, True),
    ],
}  # fmt: skip
TTA = tuple(_WAYS)
