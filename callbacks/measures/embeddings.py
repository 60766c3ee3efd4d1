"""The choice of samples for a map of embeddings, and how their vectors and images are reduced."""

import heapq
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..support.checkpoint_values import stored_as

_MASK = (1 << 64) - 1


@stored_as("SampleChoice")
class SampleChoice:
    """Chooses samples by a hash of their position, spread evenly over the loader.

    The choice depends neither on the order of the batches nor on how they are split over ranks, is the same in every
    epoch, and is made on the host before anything is copied.

    Args:
        max_samples: number of samples that are kept at most.
    """

    def __init__(self, max_samples: int):
        self.max_samples = max_samples
        self.kept: dict[int, Any] = {}
        self._heap: list[tuple[int, int]] = []  # (-hash, position): the largest hash, which goes first, on top

    def choose(self, positions: Sequence[int]) -> list[int]:
        """Add positions to the choice; return the indices of those that are in it now."""
        for position in positions:
            entry = (-position_hash(position), position)
            if len(self._heap) < self.max_samples:
                heapq.heappush(self._heap, entry)
                self.kept[position] = None
            elif entry > self._heap[0]:
                _, gone = heapq.heapreplace(self._heap, entry)
                self.kept[position] = None
                del self.kept[gone]
        return [index for index, position in enumerate(positions) if position in self.kept]

    def put(self, position: int, sample: Any) -> None:
        """Keep the parts of a sample, unless others have taken its place since."""
        if position in self.kept:
            self.kept[position] = sample


def position_hash(position: int) -> int:
    """Return a number of 64 bits that looks random; different positions give different ones (SplitMix64)."""
    value = (position + 1) * 0x9E3779B97F4A7C15 & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31


def take(part: Tensor, rows: Sequence[int]) -> Tensor:
    """Return some rows, in ascending order and each once."""
    # Row by row, as an index tensor would have to be copied to the device first.
    return part.detach() if len(rows) == len(part) else torch.stack([part[row] for row in rows]).detach()


def pool(vectors: Tensor) -> Tensor:
    """Return vectors [N, D], float32, of [N, D, ...]: the mean over the axes after D."""
    return vectors.float().reshape(*vectors.shape[:2], -1).mean(dim=2)


def shrink(images: Tensor, size: int) -> Tensor:
    """Average images down until no side is longer than ``size``; smaller ones stay as they are.

    Args:
        images: [N, C, H, W] or [N, H, W]; floating point, bool, uint16 (0 to 65535) or another integer (0 to 255).
        size: in pixels.

    Returns:
        [N, C, H, W]; float32 of floating point, otherwise uint8, where of bool 255 is true. Smaller ones: their type.
    """
    images = images[:, None] if images.ndim == 3 else images
    height, width = images.shape[2:]
    factor = size / max(height, width)
    if factor >= 1:
        return images
    target = (max(1, round(height * factor)), max(1, round(width * factor)))
    # Integers are averaged on the scale 0 to 255, which fits the uint8 that is kept.
    scale = {torch.bool: 255.0, torch.uint16: 1 / 257}.get(images.dtype, 1.0)
    small = F.interpolate(images.float() * scale, size=target, mode="area")
    return small if images.is_floating_point() else (small + 0.5).clamp(0, 255).to(torch.uint8)
