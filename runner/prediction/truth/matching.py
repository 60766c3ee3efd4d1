"""Match records of a truth with the images to predict: by file, else by name."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY

from ...data.files.images import SUFFIXES
from ..inputs import Input

_MASK_ENDINGS = ("", "_mask", "_gt", "_label")


class ImageNames:
    """Finds the place of an image by any of its names: its path below the common folder, or its name alone.

    With and without the suffix; a name that several images have finds none of them.

    Args:
        inputs: the images.
    """

    def __init__(self, inputs: Sequence[Input]):
        self._by_name = _unique((_names_of(one.name), place) for place, one in enumerate(inputs))
        self._by_file = {os.path.realpath(one.path): place for place, one in enumerate(inputs)}

    def find(self, name: str, path: str | None = None) -> int | None:
        """Return the place of the image of a file or else of a name; None: there is none."""
        place = None if path is None else self._by_file.get(os.path.realpath(path))
        names = _names_of(name.replace("\\", "/"))
        return place if place is not None else next((self._by_name[it] for it in names if it in self._by_name), None)


def match_items(items: Sequence[Mapping[str, Any]], inputs: Sequence[Input]) -> dict[int, int]:
    """Return the number of the item of each image that has one, by the image's place."""
    names, found = ImageNames(inputs), dict[int, int]()
    for number in range(len(items)):
        item = items[number]
        place = names.find(str(item[SAMPLE_ID_KEY]), item[IMAGE_KEY])
        if place is not None:
            found.setdefault(place, number)
    return found


def match_masks(folder: Path, inputs: Sequence[Input]) -> dict[int, Path]:
    """Return the mask of each image that has one in a folder, by the image's place.

    A mask has the name of its image, with any suffix, and perhaps with ``_mask``, ``_gt`` or ``_label`` before that.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    masks = _unique((_names_of(path.relative_to(folder).as_posix()), path) for path in files)
    images = {os.path.realpath(one.path) for one in inputs}
    found = {}
    for place, one in enumerate(inputs):
        stems = [name for name in _names_of(one.name) if name != one.name]
        names = [f"{stem}{ending}" for ending in _MASK_ENDINGS for stem in stems]
        mask = next((masks[name] for name in names if name in masks), None)
        if mask is not None and os.path.realpath(mask) not in images:
            found[place] = mask
    return found


def _names_of(name: str) -> list[str]:
    """Return what a file may be called, the most exact first: its path, without suffix, and both without folders."""
    path = Path(name)
    return list(dict.fromkeys([path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem])) if name else []


def _unique(named: Iterable[tuple[Sequence[str], Any]]) -> dict[str, Any]:
    """Return what stands under each name, without the names of several."""
    found: dict[str, Any] = {}
    twice: set[str] = set()
    for names, value in named:
        twice.update(name for name in names if name in found)
        found.update(dict.fromkeys(names, value))
    return {name: value for name, value in found.items() if name not in twice}
