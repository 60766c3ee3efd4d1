"""Data sets of dicts, and their augmentation by transforms that draw repeatably."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import cv2
import torch
from torch.utils.data import Dataset

from assay.callbacks.keys import SAMPLE_ID_KEY

from .chance import as_number, current_epoch, seed_of_part
from .files.image_errors import BadImageError, check_max_value
from .files.images import read_image
from .files.mask_files import Colours, check_colours, read_mask
from .seeding import mix

Item = Mapping[str, Any]


class Transform(Protocol):
    """An albumentations transform."""

    def __call__(self, **parts: Any) -> dict[str, Any]: ...
    def set_random_seed(self, seed: int) -> None: ...


class Augmented(Dataset[dict[str, Any]]):
    """Applies an albumentations transform to the items of a data set of dicts.

    What is drawn for a sample depends on (seed, epoch, index) alone. It is the same with any number of workers,
    persistent or not, after an interruption, and however deeply this data set is nested in others. The index is the one
    in this data set. Two data sets with one seed draw alike for one index, as an image and its mask need it, unless
    they are different parts of a ``ConcatDataset``.

    A part that is a path is read with ``read_image``. Where albumentations treats the part as a mask, ``read_mask``
    reads it to [H, W] instead; ``masks`` is a list of paths. Masks of class numbers are thus batched to [N, H, W], as
    losses over classes take them.

    Args:
        items: the data set; ``items[i]`` is a dict.
        transform: usually ``albumentations.Compose``.
        seed: any non-negative integer.
        keys: maps the name that albumentations gives a part to the key in the item.
        colours: for masks that show classes by colours: ``{class: (red, green, blue)}``, see ``read_mask``.
        max_value: the value that is white in images of more than 8 bits, see ``read_image``.

    Raises:
        BadImageError: on reading an item, its image cannot be read or the transform raises an error; the message names
            the sample by its id, or else by its index.
        UsageError: ``colours`` or ``max_value`` is wrong.

    Example:
        >>> import albumentations, numpy
        >>> items = [{"image": numpy.arange(4, dtype=numpy.uint8).reshape(1, 4, 1), "target": 0}]
        >>> flipped = Augmented(items, albumentations.Compose([albumentations.HorizontalFlip(p=0.5)]), seed=1)
        >>> for epoch in range(1, 5):
        ...     flipped.set_epoch(epoch)
        ...     print(flipped[0]["image"].ravel())
        [3 2 1 0]
        [3 2 1 0]
        [3 2 1 0]
        [0 1 2 3]
    """

    seeds_itself: ClassVar = ("transform",)

    def __init__(
        self,
        items: Dataset[Any] | Sequence[Item],
        transform: Transform,
        *,
        seed: int = 0,
        keys: Mapping[str, str] | None = None,
        colours: Colours | None = None,
        max_value: float | None = None,
    ):
        if colours is not None:
            check_colours(colours)
        check_max_value(max_value)
        self.items = items
        self.transform = transform
        self.seed = seed
        self.keys = dict(keys or {"image": "image"})
        self.colours = colours
        self.max_value = max_value
        # In shared memory: persistent workers hold a copy of this object and must still see the epoch change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass; needed only where no runner reads the loader."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The epoch whose items are being read."""
        epoch = current_epoch()  # comes with the indices that a runner fetches
        return int(self._epoch) if epoch is None else epoch

    def seed_of(self, index: int, *numbers: int) -> int:
        """Return a seed derived from seed, epoch, index and further numbers."""
        return mix(seed_of_part(self.seed), self.epoch, as_number(index), *numbers)

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {}
        try:
            item.update(self.items[index])
            for name, key in self.keys.items():
                item[key] = self._read_part(name, item[key])
            item.update(self._apply_transform(item, self.seed_of(index)))
        except BadImageError as error:
            sample = f"{SAMPLE_ID_KEY} {item[SAMPLE_ID_KEY]!r}" if SAMPLE_ID_KEY in item else f"item {index}"
            raise BadImageError(f"{sample}: {error}") from error
        return item

    def stored_sample(self, index: int) -> dict[str, Any] | None:
        """Return id and image of a sample as they are stored, before the transform.

        None where that is not known: the items are those of another data set, which may draw them by chance. See
        ``callbacks.history.pictures.stored_samples``.
        """
        # It is called beside the loop, where nothing may be drawn; a sequence holds its items.
        if not isinstance(self.items, Sequence):
            return None
        item, key = self.items[index], self.keys.get("image", "image")
        image = self._read_part("image", item[key])
        return {SAMPLE_ID_KEY: item.get(SAMPLE_ID_KEY), "image": image}

    def stored_ids(self) -> Sequence[Any] | None:
        """Return the ids of all samples, without reading an image; None where they are not known."""
        column = getattr(self.items, "column", None)
        if callable(column):
            names: Sequence[Any] = column(SAMPLE_ID_KEY)
            return names
        return [item.get(SAMPLE_ID_KEY) for item in self.items] if isinstance(self.items, Sequence) else None

    def _apply_transform(self, item: Item, seed: int) -> dict[str, Any]:
        parts = {name: item[key] for name, key in self.keys.items()}
        try:
            # albumentations ignores the global seeds, and a seed given once repeats one sequence in every worker and
            # epoch: it is seeded anew for each sample.
            self.transform.set_random_seed(seed)
            parts = self.transform(**parts)
            return {key: parts[name] for name, key in self.keys.items()}
        except Exception as error:  # a transform may be the user's own, and raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadImageError(f"the transform cannot take it: {reason}") from error

    def _read_part(self, name: str, part: Any) -> Any:
        """Return a part of an item; a path is replaced by what the file holds."""
        if name == "masks" and isinstance(part, list | tuple):
            return [self._read_part("mask", one) for one in part]
        if not isinstance(part, str | os.PathLike):
            return part
        # A Compose maps names of the user's to albumentations' own, such as {"depth": "mask"}.
        targets = getattr(self.transform, "additional_targets", None) or {}
        if targets.get(name, name).startswith("mask"):
            return read_mask(part, colours=self.colours)
        return read_image(part, max_value=self.max_value)


class Items(Dataset[dict[str, Any]]):
    """A data set of dicts made by a function of the index.

    Args:
        count: number of items.
        make: returns the item of an index.
    """

    def __init__(self, count: int, make: Callable[[int], dict[str, Any]]):
        self.count = count
        self.make = make

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(index)  # ends a plain for loop over the data set
        return self.make(index)


def one_thread(worker: int) -> None:
    """Limit OpenCV to one thread in a loader's worker; pass it as ``worker_init_fn``."""
    # torch limits itself to one thread there. OpenCV would start one per core in each worker.
    cv2.setNumThreads(0)
