"""Collect images and their boxes, leave out what is irregular, and pack the rest as items."""

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from assay.callbacks.errors import UsageError

from ..files.image_sizes import ImageSize, checked_size, describe_zero_sizes
from .item_list import BACKGROUND, ItemList, Ragged

_THREADS, _AT_ONCE = 8, 256  # that read sizes, and images that each takes at a time: a network drive makes them wait
_ROUNDING = 0.5  # pixels beyond the image that a file's rounding explains
ONE = 1.01
"""The largest share of a side, with a little for rounding."""

Sides = tuple[float, float, float, float]


class BoxRecords:
    """Images and their boxes, as they are found in files; ``to_items`` checks them all at once.

    Args:
        root: the folder of the images' paths.
        place_of: returns where a box is in the files, for a line about it, from the number of its image and what
            ``add_box`` was given as ``entry``.
        are_shares: whether sides of boxes are shares of the image's width and height, 0 to 1, and not pixels.
    """

    def __init__(self, root: str | os.PathLike[str], place_of: Callable[[int, int], str], *, are_shares: bool = False):
        self.root = os.fspath(root)
        self.place_of = place_of
        self.are_shares = are_shares
        self.problems: list[str] = []
        self.paths: list[str] = []
        self.splits: list[str | None] = []
        self.has_crowds = False
        self._number_of: dict[str, int] = {}
        self._places: list[object] = []
        self._stated: list[tuple[int, int] | None] = []
        self._sides, self._of_box = array("d"), array("q")

    def add_image(
        self, path: str, place: object, *, split: str | None = None, stated: tuple[int, int] | None = None
    ) -> int | None:
        """Add an image and return its number; None where it is there already, and is left out.

        Args:
            path: relative to the root.
            place: where the files name it; turned to text where a line needs it.
            split: the part that it belongs to.
            stated: width and height as the files say.
        """
        number = self._number_of.setdefault(path, len(self.paths))
        if number < len(self.paths):
            self.problems.append(f"{place}: {path} is there already, by {self._places[number]}; left out")
            return None
        self.paths.append(path)
        self.splits.append(split)
        self._places.append(place)
        self._stated.append(stated)
        return number

    def add_box(self, image: int, sides: Sequence[float], label: int, entry: int, *, is_crowd: bool = False) -> None:
        """Add a box: left, top, right, bottom; ``label`` counts from 1."""
        self._sides.extend(sides)
        self._of_box.extend((image, label, entry, is_crowd))
        self.has_crowds |= is_crowd

    def to_items(
        self, layout: str, class_names: Sequence[str], extra_columns: dict[str, list[str]] | None = None
    ) -> ItemList:
        """Return the items, of the images in the order in which they were added.

        Args:
            layout: what was found, in words.
            class_names: without the background.
            extra_columns: further columns, with an entry for each image that was added.

        Raises:
            UsageError: there is no image, or no box, or two classes have one name; sides are shares in place of pixels.
        """
        names = (BACKGROUND, *class_names)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"{self.root}: two classes are called {twice!r}; label 0 is {BACKGROUND!r}: rename one.")
        sizes = np.array([size[:2] if size else (0, 0) for size in self._read_sizes()], dtype=np.float64).reshape(-1, 2)
        kept_images = np.flatnonzero(sizes[:, 0] > 0)
        sides, of_box = self._checked_boxes(sizes)
        if not len(kept_images) or not len(sides):
            what = f"{len(kept_images):,} images and {len(sides):,} boxes of {len(self.paths):,} images in the files"
            first = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise UsageError(f"{self.root}: {layout} without anything to learn from: {what}{first}")
        if not self.are_shares and sides.max() <= ONE:
            raise UsageError(
                f"{self.root}: boxes of {layout} must be in pixels, and no number of theirs is above 1: multiply them "
                "by width and height, or write them as YOLO has them."
            )
        columns = {
            "image": [self.paths[number] for number in kept_images],
            **self._packed(sides, of_box, kept_images),
            "split": [self.splits[number] for number in kept_images],
        }
        extra = {name: [values[number] for number in kept_images] for name, values in (extra_columns or {}).items()}
        return ItemList(
            self.root, columns, task="detection", layout=layout, class_names=names, problems=self.problems,
            extra_columns=extra,
        )  # fmt: skip

    def _packed(self, sides: np.ndarray, of_box: np.ndarray, kept_images: np.ndarray) -> dict[str, Ragged]:
        order = np.argsort(of_box[:, 0], kind="stable")
        ends = np.cumsum(np.bincount(of_box[:, 0], minlength=len(self.paths))[kept_images])
        columns = {"bboxes": Ragged(sides[order], ends), "labels": Ragged(of_box[order, 1], ends)}
        return columns | ({"iscrowd": Ragged(of_box[order, 3], ends)} if self.has_crowds else {})

    def _read_sizes(self) -> list[ImageSize | None]:
        """Return the size of each image; None of one that is left out."""
        parts = [range(at, min(at + _AT_ONCE, len(self.paths))) for at in range(0, len(self.paths), _AT_ONCE)]
        sizes: list[ImageSize | None] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for found in pool.map(lambda part: [self._read_size(number) for number in part], parts):
                for size, problem in found:
                    self.problems += [problem] if problem else []
                    sizes.append(size)
        of_zero = [path for path, stated in zip(self.paths, self._stated, strict=True) if stated and 0 in stated]
        self.problems += describe_zero_sizes(of_zero)
        return sizes

    def _read_size(self, number: int) -> tuple[ImageSize | None, str]:
        """Return the size of an image and what is wrong with it; no size where it is left out."""
        size, why = checked_size(self.root, self.paths[number], self._stated[number])
        return size, f"{self._places[number]}: {why}" if why else ""

    def _checked_boxes(self, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return sides [B, 4], float32, and image, label, entry and crowd [B, 4] of the boxes that are kept."""
        of_box = np.array(self._of_box, dtype=np.int64).reshape(-1, 4)
        sides = np.array(self._sides, dtype=np.float64).reshape(-1, 4)
        has_image = sizes[of_box[:, 0], 0] > 0
        of_box, sides = of_box[has_image], sides[has_image]
        ends = np.tile(sizes[of_box[:, 0]], 2)
        sides = sides * ends if self.are_shares else sides
        within = sides.clip(0, ends).astype(np.float32)
        is_wrong = np.zeros(len(sides), dtype=bool)
        for rows, why, is_left_out in _irregular(of_box, sides, within, ends):
            rows = rows & ~is_wrong
            self.problems += [self._about_box(of_box[row], sides[row], why) for row in np.flatnonzero(rows)]
            if is_left_out:
                is_wrong |= rows
        return within[~is_wrong], of_box[~is_wrong]

    def _about_box(self, of_box: np.ndarray, sides: np.ndarray, why: str) -> str:
        image, _, entry, _ = of_box.tolist()
        shown = ", ".join(f"{side:.6g}" for side in sides)
        return f"{self.place_of(image, entry)}: the box [{shown}] of {self.paths[image]} {why}"


def _irregular(
    of_box: np.ndarray, sides: np.ndarray, within: np.ndarray, ends: np.ndarray
) -> Iterator[tuple[np.ndarray, str, bool]]:
    """Yield which boxes [B] are irregular, why, and whether they are left out; the worst first."""
    is_finite = np.isfinite(sides).all(axis=1)
    yield ~is_finite, "is not finite; left out", True
    yield ~_has_area(sides), "has no area: right must be greater than left, and bottom than top; left out", True
    yield ~_has_area(within), "lies outside of its image; left out", True
    keys = np.column_stack([of_box[:, [0, 1, 3]], within])
    is_first = np.zeros(len(keys), dtype=bool)
    if len(keys):
        is_first[np.unique(keys, axis=0, return_index=True)[1]] = True
    yield ~is_first, "is there twice with one label; left out", True
    overhang = np.maximum(-sides, sides - ends).max(axis=1, initial=-np.inf)
    yield overhang > _ROUNDING, "reaches beyond its image; clipped", False


def _has_area(sides: np.ndarray) -> np.ndarray:
    has_area: np.ndarray = np.all(sides[:, 2:] > sides[:, :2], axis=1)
    return has_area
