"""IoU and boundary IoU of binary masks by image, counted in pixels without reading the device."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions
from .targets import decide_targets


@stored_as("RegionCounts")
class RegionCounts:
    """Counts of pixels in the intersection and the union of truth and prediction, by image, summed over windows.

    The state lives on the device, in int64: ``area`` and ``border``, each [I, 2], intersection and union. ``border``
    counts only those pixels of a mask that have a pixel outside of it at most ``reach`` rows and columns away: the
    boundary IoU of B. Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", 2021,
    section 4. It is counted window by window. Pixels outside of a window, and those that do not count, are
    treated as inside of both masks: a pixel less than ``reach`` from such a place may be missed as part of a border.
    (The paper treats pixels outside of an image as outside of both masks.)

    Args:
        images: I, number of images.
        reach: pixels, at least 1.
        device: where the tensors are.
    """

    reductions: ClassVar[Reductions] = {"area": "sum", "border": "sum"}

    def __init__(self, images: int, reach: int, device: torch.device | str = "cpu"):
        self.reach = reach
        self.state = {name: torch.zeros((images, 2), dtype=torch.int64, device=device) for name in self.reductions}

    @torch.no_grad()
    def update(self, logits: Tensor, target: Tensor, image: Tensor) -> None:
        """Add a batch of windows.

        Args:
            logits: [N, 1, H, W]; positive means yes.
            target: [N, H, W]; 0, 1, and anything else for pixels that do not count; floats from 0 to 1 are
                thresholded at 0.5.
            image: [N], int64, the number of each window's image, from 0 to I - 1.
        """
        target = decide_targets(target, logits.shape, "binary")
        counted = (target == 0) | (target == 1)
        masks = [(logits > 0) & counted, (target == 1) & counted]
        # Dilation of what is outside: a pixel of a mask is at the border where that reaches it.
        borders = [mask & (spread((counted & ~mask).float(), self.reach) > 0) for mask in masks]
        for name, (found, true) in {"area": masks, "border": borders}.items():
            # Several windows of a batch may be of one image, which index_add_ adds up.
            counts = torch.stack([(found & true).sum(dim=(1, 2, 3)), (found | true).sum(dim=(1, 2, 3))], dim=1)
            self.state[name].index_add_(0, image, counts)


def iou(counts: Tensor) -> Tensor:
    """Return intersection over union of counts [..., 2], in float64; NaN where the union is empty."""
    return counts[..., 0].double() / counts[..., 1]


def spread(mask: Tensor, reach: int) -> Tensor:
    """Return the largest value of [N, 1, H, W] within a square of ``reach`` pixels to all sides of each pixel."""
    # Rows, then columns: the same maximum in 2 * side comparisons per pixel instead of side * side.
    side = 2 * reach + 1
    return F.max_pool2d(F.max_pool2d(mask, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
