"""Read masks from COCO's outlines and run lengths, by pycocotools; drawn when they are asked for."""

import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError

from ...files.image_sizes import checked_size, describe_zero_sizes
from ..coco import CocoFile, CocoFinder, find_coco_files, is_key, open_coco, stated_size
from ..folder_tree import join
from ..item_list import BACKGROUND, ItemList, MadeOnDemand
from ..json_places import JsonPlaces

_HEAD = 2**20  # bytes of a file in which outlines are looked for
_MOST_CLASSES = 255  # numbers below what does not count


class DrawnMasks(MadeOnDemand[np.ndarray]):
    """Masks [H, W] uint8 that are drawn when they are asked for: 0 the background, and the classes of objects.

    Crowds are drawn first, then the objects from the largest to the smallest, so that what lies on top of another one
    stays whole; of one size, the later one lies on top.
    """

    def __init__(self) -> None:
        self._sizes = array("q")  # height and width of each image
        self._of_image = array("q", [0])  # where its objects end
        self._of_object = array("q")  # class, whether it is a crowd, where its rings end, and the number of its runs
        self._rings = array("q", [0])  # where the points of each ring begin and end
        self._points = array("d")
        self._runs: list[bytes] = []  # run lengths; their numbers count from 1, and objects of rings have 0

    def add_image(self, height: int, width: int, objects: Sequence["_Object"]) -> None:
        """Add an image with its objects."""
        self._sizes.extend((height, width))
        for one in objects:
            end = len(self._rings) - 1
            if isinstance(one.shape, bytes):
                self._runs.append(one.shape)
                self._of_object.extend((one.label, one.is_crowd, end, len(self._runs)))
                continue
            for ring in one.shape:
                self._points.extend(ring)
                self._rings.append(len(self._points))
            self._of_object.extend((one.label, one.is_crowd, len(self._rings) - 1, 0))
        self._of_image.append(len(self._of_object) // 4)

    def __len__(self) -> int:
        return len(self._of_image) - 1

    def make(self, place: int) -> np.ndarray:
        height, width = self._sizes[2 * place : 2 * place + 2]
        tools = mask_tools()
        drawn = []
        for number in range(self._of_image[place], self._of_image[place + 1]):
            label, is_crowd = self._of_object[4 * number : 4 * number + 2]
            code = self._code(number, height, width)
            drawn.append((not is_crowd, -int(tools.area(code)), number, label, code))
        mask = np.zeros((height, width), dtype=np.uint8)
        for *_, label, code in sorted(drawn, key=lambda one: one[:3]):
            mask[tools.decode(code).astype(bool)] = label
        return mask

    def _code(self, number: int, height: int, width: int) -> dict[str, Any]:
        """Return the run lengths of an object."""
        end, run = self._of_object[4 * number + 2 : 4 * number + 4]
        if run:
            return {"size": [height, width], "counts": self._runs[run - 1]}
        first = self._of_object[4 * number - 2] if number else 0
        points = [self._points[self._rings[at] : self._rings[at + 1]].tolist() for at in range(first, end)]
        tools = mask_tools()
        code: dict[str, Any] = tools.merge(tools.frPyObjects(points, height, width))
        return code


class _Object:
    """An object: its label, whether it is a crowd, and its rings of points or its run lengths."""

    def __init__(self, label: int, is_crowd: bool, shape: list[list[float]] | bytes):
        self.label, self.is_crowd, self.shape = label, is_crowd, shape


def mask_tools() -> Any:
    """Return ``pycocotools.mask``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UsageError("masks of COCO need pycocotools: pip install pycocotools.") from error
    return mask


def read_coco_masks(path: str | os.PathLike[str]) -> ItemList:
    """Read the outlines of a data set in COCO's form as masks of classes.

    Files and images are found as by ``read_coco``. Class 0 is the background; the others are the categories by rising
    id. Of objects that overlap the smaller one is on top; a crowd lies below all objects. Each object covers the pixels
    that pycocotools gives it. An image without annotations is one of background.

    Args:
        path: a JSON file, or the folder of the data set.

    Returns:
        Items with ``image``, ``target`` (arrays [H, W] uint8, drawn when they are asked for) and ``split``.

    Raises:
        UsageError: there is no such file, or it holds no outline that can be drawn.
    """
    root, sets, categories = open_coco(path, keep_outlines=True)
    mask_tools()
    names = [BACKGROUND, *(categories[number] for number in sorted(categories))]
    if len(names) > _MOST_CLASSES:
        raise UsageError(f"{root}: masks must have at most {_MOST_CLASSES} classes, got {len(names)}.")
    reader = _Reader(root, {number: label for label, number in enumerate(sorted(categories), 1)})
    for file, content in sets:
        reader.add(file, content)
    return reader.to_items(names)


def looks_like(path: Path) -> bool:
    """Whether a path is a JSON file in COCO's form that holds outlines, or a folder with one."""
    root, files = find_coco_files(path)
    return any(_has_outlines(os.path.join(root, file.path)) for file in files)


def _has_outlines(path: str) -> bool:
    with open(path, "rb") as file:
        # Without spaces: an outline is a list of lists, or a dict of run lengths.
        head = file.read(_HEAD).translate(None, b" \t\r\n")
    return b'"segmentation":[[' in head or b'"segmentation":{' in head


class _Reader:
    """Collects the images and objects of COCO files, and what is wrong with them.

    Args:
        root: the folder of the data set.
        labels: the class of each category's id.
    """

    def __init__(self, root: str, labels: Mapping[Any, int]):
        self.root, self.labels = root, labels
        self.problems: list[str] = []
        self.images: dict[str, str | None] = {}  # each image's part of the split
        self.masks = DrawnMasks()
        self.has_objects = False
        self.of_zero_size: list[str] = []

    def add(self, file: CocoFile, content: Mapping[str, Any]) -> None:
        """Add the images of a file with their objects."""
        sizes: dict[Any, tuple[str, int, int]] = {}
        left_out: set[Any] = set()
        places = JsonPlaces(join(self.root, file.path), file.path, content)
        finder = CocoFinder(self.root, file)
        for entry, one in enumerate(content["images"], 1):
            found, why = self._check_image(finder, one, sizes)
            if found is None:
                left_out.add(_key(one.get("id")))
                self.problems.append(f"{places.of('images', entry)}: {why}")
            else:
                sizes[one["id"]] = found
                self.images[found[0]] = file.split
        objects: dict[Any, list[_Object]] = {number: [] for number in sizes}
        for entry, one in enumerate(content["annotations"], 1):
            number = _key(one.get("image_id"))
            if number in left_out and number not in sizes:
                continue  # reported with its image
            found_object, why = self._check_object(one, sizes)
            if found_object is None:
                self.problems.append(f"{places.of('annotations', entry)}: {why}; left out")
            else:
                objects[number].append(found_object)
                self.has_objects = True
        for number, (_, height, width) in sizes.items():
            self.masks.add_image(height, width, objects[number])

    def to_items(self, names: Sequence[str]) -> ItemList:
        """Return the items.

        Raises:
            UsageError: there is no image, or no object.
        """
        if not self.has_objects:
            first = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise UsageError(f"{self.root}: COCO without outlines to learn from: {len(self.images):,} images{first}.")
        problems = [*self.problems, *describe_zero_sizes(self.of_zero_size)]
        columns: dict[str, Sequence[Any]] = {
            "image": [*self.images], "sample_id": [*self.images], "target": self.masks,
        }  # fmt: skip
        if any(self.images.values()):
            columns["split"] = [*self.images.values()]
        return ItemList(
            self.root, columns, task="segmentation", layout="COCO outlines", class_names=names, problems=problems
        )

    def _check_image(
        self, finder: CocoFinder, one: Mapping[str, Any], known: Mapping[Any, Any]
    ) -> tuple[tuple[str, int, int] | None, str]:
        """Return path, height and width of an image, or why it is left out."""
        name, number = one.get("file_name"), one.get("id")
        if not isinstance(name, str) or _key(number) is None:
            return None, "no id or file_name; left out"
        if number in known:
            return None, f"id {number!r} is there already; left out"
        path, why_not = finder.find(name)
        if path is None:
            return None, why_not
        if path in self.images:
            return None, f"{path} is there already; left out"
        stated = stated_size(one)
        size, why = checked_size(self.root, path, stated)
        if size is None:
            return None, why
        if stated and 0 in stated:
            self.of_zero_size.append(path)
        return (path, size.height, size.width), ""

    def _check_object(
        self, one: Mapping[str, Any], sizes: Mapping[Any, tuple[str, int, int]]
    ) -> tuple[_Object | None, str]:
        """Return an object, or why it is left out."""
        number, category = _key(one.get("image_id")), _key(one.get("category_id"))
        if number not in sizes:
            return None, f"there is no image with id {one.get('image_id')!r}"
        if category not in self.labels:
            return None, f"there is no category with id {one.get('category_id')!r} and a name"
        path, height, width = sizes[number]
        shape, why = _shape_of(one.get("segmentation"), height, width)
        if shape is None:
            return None, f"the outline in {path} {why}"
        return _Object(self.labels[category], bool(one.get("iscrowd")), shape), ""


def _shape_of(outline: Any, height: int, width: int) -> tuple[list[list[float]] | bytes | None, str]:
    """Return rings of points or run lengths, or what is wrong with them."""
    if not outline:
        return None, "is missing"
    if isinstance(outline, dict):
        return _runs_of(outline, height, width)
    if not isinstance(outline, list) or not all(isinstance(ring, list) for ring in outline):
        return None, "is neither a list of rings nor run lengths"
    for ring in outline:
        # pycocotools would take four numbers for a box, and fewer for nothing.
        if len(ring) < 6 or len(ring) % 2 or not all(map(_is_finite, ring)):
            return None, f"has a ring of {len(ring)} numbers: it must have x and y of 3 points or more"
    return [[float(value) for value in ring] for ring in outline], ""


def _runs_of(outline: Mapping[str, Any], height: int, width: int) -> tuple[bytes | None, str]:
    counts, size = outline.get("counts"), outline.get("size")
    if size != [height, width]:
        return None, f"has run lengths of size {size}, and the image has [{height}, {width}]"
    if isinstance(counts, list):
        if not all(_is_finite(count) and count >= 0 for count in counts) or sum(counts) != height * width:
            return None, "has run lengths that do not add up to the image"
        return bytes(mask_tools().frPyObjects(dict(outline), height, width)["counts"]), ""
    runs = counts.encode() if isinstance(counts, str) else b""
    if not runs or _length_of(runs) != height * width:
        return None, "has run lengths that do not add up to the image"
    return runs, ""


def _length_of(runs: bytes) -> int:
    """Return how many pixels compressed run lengths cover; -1 where they are none."""
    # Each is written by 5 bits a byte, and from the fourth on as the difference to the last but one.
    counts: list[int] = []
    at = 0
    while at < len(runs):
        value = shift = 0
        more = True
        while more and at < len(runs):
            byte = runs[at] - 48
            if not 0 <= byte < 64:
                return -1
            value |= (byte & 31) << shift
            more, shift, at = bool(byte & 32), shift + 5, at + 1
            if not more and byte & 16:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return sum(counts) if min(counts, default=-1) >= 0 else -1


def _key(value: Any) -> Any:
    """Return an id, text or whole number; None for anything else."""
    return value if is_key(value) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
