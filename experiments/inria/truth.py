"""Tiles with a truth from any layout of masks, cut into windows as for validation."""

from pathlib import Path
from typing import Any

import numpy as np

from assay.runner import ItemList, Transform

from .data import Windows
from .tiles import IGNORED, tile_of


class TruthWindows(Windows):
    """All windows of images with their masks, which may also say what does not count.

    Args:
        items: with ``image``, a path, and ``target``, [H, W] with 0, 1 and ``IGNORED``.
        size: see ``Windows``.
        margin: see ``Windows``.
        transform: see ``Windows``.
    """

    def __init__(self, items: ItemList, size: int, margin: int, transform: Transform):
        self.masks = items.column("target")
        self._kept: tuple[int, np.ndarray] | None = None
        names = zip(items.column("image"), items.column("sample_id"), strict=True)
        super().__init__([tile_of(Path(image), name) for image, name in names], size, margin, transform)

    def _cut(self, index: int) -> dict[str, Any]:
        item, (number, top, left) = super()._cut(index), self.places[index]
        inside = self._mask(number)[top : top + self.size, left : left + self.size]
        rows, columns = (slice(self.margin, self.margin + side) for side in inside.shape)
        target = np.full(item["image"].shape[:2], IGNORED, dtype=np.uint8)
        target[rows, columns] = inside
        return item | {"target": target}

    def _mask(self, number: int) -> np.ndarray:
        """Return the mask of a tile; the last one is kept, as its windows are cut one after the other."""
        if self._kept is None or self._kept[0] != number:
            self._kept = number, np.asarray(self.masks[number])
        return self._kept[1]
