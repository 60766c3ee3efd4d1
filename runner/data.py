"""Data sets whose items are dicts, augmented by chance that can be repeated."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import cv2
import torch
from torch.utils.data import Dataset

from assay.callbacks.keys import SAMPLE_ID_KEY

from .chance import as_number, current_epoch, seed_here
from .images import BadImageError, check_max_value, read_image
from .mask_files import Colours, check_colours, read_mask
from .seeding import mix

Item = Mapping[str, Any]


class Transform(Protocol):
    """An albumentations transform."""

    def __call__(self, **parts: Any) -> dict[str, Any]: ...
    def set_random_seed(self, seed: int) -> None: ...


class Augmented(Dataset[dict[str, Any]]):
    """Applies an albumentations transform to the items of a data set of dicts.

    What is drawn for a sample follows from (seed, epoch, index) alone: the same with any number of workers,
    persistent or not, and in a run that was interrupted, however deep this data set stands in others. The index is the
    one in this data set. Two of one seed draw alike for one index, as an image and its mask need it, except in
    different parts of a ``ConcatDataset``. albumentations ignores the global seeds, and with a seed of its own repeats
    one sequence in every worker and every epoch.

    A part that is a path is read: by ``read_image``, or by ``read_mask`` to [H, W] where albumentations knows it as a
    mask; of ``masks``, a list of paths, each is. So masks of class numbers are batched to [N, H, W], as losses over
    classes take them.

    Args:
        items: the data set; ``items[i]`` is a dict.
        transform: usually ``albumentations.Compose``.
        seed: any non-negative integer.
        keys: what albumentations calls a part, and its key in the item.
        colours: for masks that show classes by colours: ``{class: (red, green, blue)}``, see ``read_mask``.
        max_value: the value that is white in images of more than 8 bits, see ``read_image``.

    Raises:
        BadImageError: when an item is asked for, its image cannot be read, or the transform raises an error; the sample
            is named, by id or else by index.
        UsageError: ``colours`` or ``max_value`` is wrong.
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
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers see it change

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass, for a loader that no runner reads: a runner's fetch brings the epoch."""
        self._epoch.fill_(epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the items are read for."""
        epoch = current_epoch()
        return int(self._epoch) if epoch is None else epoch

    def seed_of(self, index: int, *numbers: int) -> int:
        """Return a seed that follows from seed, epoch and index, and from further numbers."""
        return mix(seed_here(self.seed), self.epoch, as_number(index), *numbers)

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        item: dict[str, Any] = {}
        try:
            item.update(self.items[index])
            for name, key in self.keys.items():
                item[key] = self._read_part(name, item[key])
            item.update(self._transformed(item, self.seed_of(index)))
        except BadImageError as error:
            sample = f"{SAMPLE_ID_KEY} {item[SAMPLE_ID_KEY]!r}" if SAMPLE_ID_KEY in item else f"item {index}"
            raise BadImageError(f"{sample}: {error}") from error
        return item

    def _transformed(self, item: Item, seed: int) -> dict[str, Any]:
        parts = {name: item[key] for name, key in self.keys.items()}
        try:
            self.transform.set_random_seed(seed)
            parts = self.transform(**parts)
            return {key: parts[name] for name, key in self.keys.items()}
        except Exception as error:  # whatever a transform of the user's raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise BadImageError(f"the transform cannot take it: {reason}") from error

    def _read_part(self, name: str, part: Any) -> Any:
        """Return a part of an item, read where it is a path."""
        if name == "masks" and isinstance(part, list | tuple):
            return [self._read_part("mask", one) for one in part]
        if not isinstance(part, str | os.PathLike):
            return part
        of_albumentations = getattr(self.transform, "additional_targets", None) or {}
        if of_albumentations.get(name, name).startswith("mask"):
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
            raise IndexError(index)
        return self.make(index)


def one_thread(worker: int) -> None:
    """Let OpenCV work in one thread, as torch does in a loader's worker: for ``worker_init_fn``.

    By itself it takes as many threads as there are cores, in each worker.
    """
    cv2.setNumThreads(0)
