"""Make a ``SampleProbe`` of an item, whatever its form: dicts and tuples, classes and numbers, masks and boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....keys import IMAGE_KEY, SAMPLE_ID_KEY, TARGET_KEY
from ...probe.loader_probe import SampleProbe
from .jumps import flat_of, jumps_of
from .levels import levels_of
from .pixels import Pixels, as_array, kept_size, measure, nearest

Key = str | int | None

MOST_VALUES = 300
MOST_SMALL = 4000
_MOST_NUMBERS = 64
_BOXES, _BOX_LABELS = ("boxes", "bboxes"), ("labels", "class_labels", "category_ids")


@dataclass(frozen=True)
class Keys:
    """Where the parts of an item and of a batch are: keys of a dict, or places in a tuple.

    In a tuple, keys of a dict are the image at 0 and the target at 1.

    Attributes:
        image_key: of what the model sees.
        target_key: of the target by which the loss is computed; boxes may also lie beside it.
        sample_id_key: of ids.
        box_key: of boxes; None: ``boxes`` or ``bboxes``.
        label_key: of the labels of boxes; None: ``labels``.
        further: of other targets.
    """

    image_key: Key = IMAGE_KEY
    target_key: Key = TARGET_KEY
    sample_id_key: Key = SAMPLE_ID_KEY
    box_key: Key = None
    label_key: Key = None
    further: tuple[str | int, ...] = ()

    def image(self, item: Any) -> Any:
        """Return the image of an item or the images of a batch; None where there is none."""
        return part_of(item, self.image_key, place=0)

    def target(self, item: Any) -> Any:
        """Return the target of an item or the targets of a batch; None where there is none."""
        return part_of(item, self.target_key, place=1)

    def name(self, item: Any) -> str | None:
        """Return the id of an item; None where it has none."""
        found = part_of(item, self.sample_id_key, place=None)
        is_name = isinstance(found, str | int | np.integer) or (getattr(found, "ndim", 1) == 0 and found is not None)
        return str(found.item() if hasattr(found, "item") else found) if is_name else None


def part_of(item: Any, key: Key, place: int | None) -> Any:
    """Return what an item or a batch holds under a key, or in a tuple at a place; None where it is missing."""
    if key is None:
        return None
    if isinstance(item, Mapping):
        return item.get(key)
    if isinstance(item, list | tuple):
        at = key if isinstance(key, int) else place
        return item[at] if at is not None and -len(item) <= at < len(item) else None
    # A data set of images alone.
    return item if place == 0 else None


class SampleReader:
    """Makes samples of items.

    Args:
        keys: of the parts of an item.
    """

    def __init__(self, keys: Keys):
        self.keys = keys

    def read(self, index: int, item: Any, *, closely: bool) -> SampleProbe | None:
        """Return an item as a sample; None where it has no image, or one on a GPU.

        Args:
            index: in the data set.
            item: as the data set returns it.
            closely: whether its image is kept where it has a mask or boxes, and its neighbouring pixels are compared.
        """
        name = self.keys.name(item)
        pixels = measure(self.keys.image(item))
        if pixels is None:
            return None
        targets = self._targets(item, pixels)
        image = pixels.kept() if closely and {"mask", "boxes"} & {*targets} else None
        if image is None:
            targets.pop("mask", None)
        compares = pixels.is_image and closely
        jumps, levels = (jumps_of(pixels.planes), levels_of(pixels.planes)) if compares else (None, None)
        flat = flat_of(pixels.planes, pixels.high - pixels.low) if pixels.is_image else None
        return SampleProbe(
            index, str(index) if name is None else name, pixels.digest, pixels.shape, pixels.dtype, pixels.mean,
            pixels.std, pixels.low, pixels.high, pixels.small(), image, non_finite=pixels.non_finite, jumps=jumps,
            lows=pixels.lows, highs=pixels.highs, levels=levels, flat=flat, **targets,
        )  # fmt: skip

    def _targets(self, item: Any, pixels: Pixels) -> dict[str, Any]:
        found: dict[str, Any] = {"targets": self._further(item)}
        target = self.keys.target(item)
        found |= boxes_in(target if isinstance(target, Mapping) else item, self.keys)
        array = None if isinstance(target, Mapping) else as_array(target)
        if array is None or "boxes" in found:
            return found
        return found | (_mask(array, pixels) if array.ndim >= 2 else {"target": array})

    def _further(self, item: Any) -> dict[str, NDArray[Any]]:
        arrays = {str(key): as_array(part_of(item, key, place=None)) for key in self.keys.further}
        return {key: array.reshape(-1)[:_MOST_NUMBERS] for key, array in arrays.items() if array is not None}


def boxes_in(of: Any, keys: Keys) -> dict[str, Any]:
    """Return ``boxes`` [n, 4] of an item or of its target, and ``box_labels`` [n] where they are; else nothing."""
    boxes = as_array(_first(of, keys.box_key, _BOXES))
    if boxes is None or boxes.size % 4:
        return {}
    labels = as_array(_first(of, keys.label_key, _BOX_LABELS))
    found: dict[str, Any] = {"boxes": boxes.reshape(-1, 4)}
    return found if labels is None else found | {"box_labels": labels.reshape(-1)}


def _first(of: Any, key: Key, names: Sequence[str]) -> Any:
    if key is not None:
        return part_of(of, key, place=None)
    found = (of[name] for name in names if name in of) if isinstance(of, Mapping) else iter(())
    return next(found, None)


def _mask(array: NDArray[Any], pixels: Pixels) -> dict[str, Any]:
    """Return the fields of a mask; a target of several dimensions of another size is one that cannot be laid over."""
    size = pixels.planes.shape[1:] if pixels.is_image else None
    laid = _laid_over(array, size) if size is not None else None
    values, counts = _values(array)
    # A table of numbers is no mask.
    if laid is None and min(array.shape[-2:]) < 8:
        return {"target": array.reshape(-1)[:_MOST_NUMBERS]}
    shares = counts / max(1, counts.sum())
    fields: dict[str, Any] = {
        "mask_values": tuple(map(float, values[:MOST_VALUES])),
        "mask_shares": tuple(map(float, shares[:MOST_VALUES])),
    }
    if laid is None or size is None:
        return fields
    return fields | {"mask": np.ascontiguousarray(nearest(laid, kept_size(size)))}


def _laid_over(array: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any] | None:
    """Return a mask as [H, W] or [L, H, W]; None where it has not the size of its image."""
    if array.ndim == 3 and array.shape[:2] == size and array.shape[1:] != size:
        array = array.transpose(2, 0, 1)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    return array if array.ndim <= 3 and array.shape[-2:] == size else None


def _values(mask: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    flat = mask.reshape(-1)
    if flat.dtype.kind == "b":
        flat = flat.view(np.uint8)
    if flat.dtype.kind in "iu" and flat.size and flat.min() >= 0 and flat.max() < 65_536:
        # Sorting takes ten times as long.
        counts = np.bincount(flat.astype(np.int64, copy=False))
        values = np.flatnonzero(counts)
        return values, counts[values]
    return np.unique(flat, return_counts=True)
