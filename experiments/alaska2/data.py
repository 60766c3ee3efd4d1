"""The layout of ALASKA2: four folders of JPEG files with the same names, and batches that keep covers whole."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from assay.callbacks import UsageError

from .jpeg import QUALITIES, Header, bad, read_header, read_jpeg

CLASS_NAMES = ["Cover", "JMiPOD", "JUNIWARD", "UERD"]
VERSIONS = len(CLASS_NAMES)
_FOLDS = 5


def find_covers(root: Path) -> list[str]:
    """Return the names of all covers, sorted.

    Raises:
        UsageError: a folder is missing or has no JPEG file, or a file is in one folder and not in another.
    """
    found = {}
    for folder in CLASS_NAMES:
        if not (root / folder).is_dir():
            raise UsageError(f"{root / folder} is missing: data_dir must hold the folders {', '.join(CLASS_NAMES)}.")
        found[folder] = {path.name for path in (root / folder).iterdir() if path.suffix.lower() == ".jpg"}
    everything = set().union(*found.values())
    if not everything:
        raise UsageError(f"{root} has no .jpg file in its folders {', '.join(CLASS_NAMES)}.")
    missing = [root / folder / name for folder, names in found.items() for name in sorted(everything - names)]
    if missing:
        rest = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UsageError(f"{missing[0]} is missing{rest}: each image must be in all of {', '.join(CLASS_NAMES)}.")
    return sorted(everything)


def is_valid(name: str) -> bool:
    """Whether a cover and its three stego versions are for validation: about one in five, by the name alone."""
    return zlib.crc32(name.encode()) % _FOLDS == 0


class Versions(Dataset[dict[str, Any]]):
    """All versions of some covers: version v of cover c is item ``4 * c + v``.

    An item has ``image`` [H, W, 3] float32 (see ``read_jpeg``), ``target`` (a class number), ``is_stego`` (0 or 1),
    ``quality`` (index in ``QUALITIES``) and ``sample_id`` (the path below the root).

    Args:
        root: the folder with the folders of ``CLASS_NAMES``.
        names: of the covers; not empty.

    Raises:
        BadImageError: the first cover's header cannot be read; when an item is asked for: its file cannot be read (see
            ``read_jpeg``), its quality is not that of its cover, or its size is not that of the first cover.
    """

    def __init__(self, root: Path, names: Sequence[str]):
        self.root = root
        self.names = list(names)
        self.first = root / CLASS_NAMES[0] / self.names[0]
        header = read_header(self.first)
        self.size = (header.width, header.height)
        self._qualities: dict[str, int] = {}  # of the covers, as they are asked for

    def __len__(self) -> int:
        return VERSIONS * len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, version = self.names[index // VERSIONS], index % VERSIONS
        place = f"{CLASS_NAMES[version]}/{name}"
        header, image = read_jpeg(self.root / place)
        self._check(header, place, name)
        return {
            "quality": QUALITIES.index(header.quality),
            "image": image,
            "target": version,
            "is_stego": int(version > 0),
            "sample_id": place,
        }

    def _check(self, header: Header, place: str, name: str) -> None:
        """Complain about a file that does not fit its cover or the first of all."""
        size = (header.width, header.height)
        if size != self.size:
            wrong = f"it is {_text(size)} pixels, {self.first} is {_text(self.size)}: all must be of one size"
            raise bad(self.root / place, wrong)
        cover = self.root / CLASS_NAMES[0] / name
        if name not in self._qualities:
            self._qualities[name] = read_header(cover).quality
        if header.quality != self._qualities[name]:
            wrong = f"its quality is {header.quality}, that of its cover {cover} is {self._qualities[name]}"
            raise bad(self.root / place, wrong)


class WholeCovers(Sampler[list[int]]):
    """Batches of ``Versions`` that hold all versions of each cover: a step compares what differs in nothing else.

    Args:
        covers: number of covers; what is left of them makes a smaller last batch.
        batch_size: images in a batch, a multiple of 4.
        shuffle: whether covers, and the images within a batch, come in an order drawn from torch's generator.

    Raises:
        UsageError: the batch size is no multiple of 4.
    """

    def __init__(self, covers: int, batch_size: int, *, shuffle: bool):
        if batch_size % VERSIONS:
            raise UsageError(f"batch_size must be a multiple of {VERSIONS}, whole covers, got {batch_size}.")
        self.covers = covers
        self.at_once = batch_size // VERSIONS
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-self.covers // self.at_once)

    def __iter__(self) -> Iterator[list[int]]:
        for part in self._order(self.covers).split(self.at_once):
            images = (part.unsqueeze(1) * VERSIONS + torch.arange(VERSIONS)).flatten()
            yield images[self._order(len(images))].tolist()

    def _order(self, count: int) -> torch.Tensor:
        return torch.randperm(count) if self.shuffle else torch.arange(count)


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
