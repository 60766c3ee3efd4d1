"""Read boxes from COCO JSON.

By ``json`` and not by pycocotools, which checks nothing, prints, and holds every outline in memory.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from assay.callbacks.errors import UsageError

from .box_records import BoxRecords
from .class_names import read_text
from .folder_tree import join, split_of
from .image_finder import ImageFinder
from .item_list import BACKGROUND, ItemList
from .json_places import JsonPlaces

_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:')
_OTHER_TASKS = re.compile("keypoints|captions|panoptic|stuff|image_info")  # files beside COCO's own boxes
_HEAD = 2**20  # bytes of a file in which these keys are looked for
_FOLDERS = ("", "annotations", "labels", "train", "valid", "val", "test")
_NO_PARENT = ("none", "")  # supercategories of what is no part of another category


class CocoFile(NamedTuple):
    """A JSON file in COCO's form; ``path`` is relative to the data set's folder, ``split`` what its name says."""

    path: str
    split: str | None


def read_coco(path: str | os.PathLike[str]) -> ItemList:
    """Read the boxes of a data set in COCO's form.

    ``path`` is a JSON file, or a folder::

        annotations/instances_train.json            train/_annotations.coco.json
        annotations/instances_val.json              train/1.jpg
        train/1.jpg   val/2.jpg   (or images/...)   valid/_annotations.coco.json

    A file's part of the split is in its name or in that of its folder. Images are looked for beside the file, in
    ``images``, in the folders of parts, and else by name anywhere. Classes are the categories by rising id, whatever
    gaps the ids have. An image without annotations is one without objects. A box is left, top, width and height in
    pixels; its corners are kept as they are, and clipped to the image. A crowd keeps its mark in the column
    ``iscrowd``: metrics ignore what is found in it.

    Returns:
        Items with ``image``, ``bboxes``, ``labels``, ``split`` and, where there are crowds, ``iscrowd``.

    Raises:
        UsageError: there is no such file, one is no JSON or not of this form, two contradict each other on the
            categories, or nothing is left to learn from.
    """
    root, sets, categories = open_coco(path)
    records = BoxRecords(root, lambda image, entry: str(of_image[image].of("annotations", entry)))
    of_image: dict[int, JsonPlaces] = {}  # of the file that names an image
    labels = {number: label for label, number in enumerate(sorted(categories), 1)}
    for file, content in sets:
        places = JsonPlaces(join(root, file.path), file.path, content)
        images = _add_images(records, file, places)
        of_image |= dict.fromkeys(images.values(), places)
        for entry, one in enumerate(content["annotations"], 1):
            problem = _add_annotation(records, images, labels, one, entry)
            if problem:
                records.problems.append(f"{places.of('annotations', entry)}: {problem}; left out")
    return records.to_items("COCO", [categories[number] for number in sorted(categories)])


def looks_like(path: Path) -> bool:
    """Whether a path is a JSON file in COCO's form, or a folder that holds one."""
    return bool(find_coco_files(path)[1])


def find_coco_files(path: str | os.PathLike[str]) -> tuple[str, list[CocoFile]]:
    """Return the folder of a data set and its files in COCO's form.

    Of several files, those whose name says no part of a split do not count beside those whose name does.
    """
    if os.path.isfile(path):
        folder, name = os.path.split(os.fspath(path))
        root, inner = os.path.split(folder)
        if inner in _FOLDERS[1:]:  # images lie beside that folder
            name = f"{inner}/{name}"
        else:
            root = folder
        return root or ".", [CocoFile(name, _split_in(name))] if _is_coco(path) else []
    found = [join(folder, name) for folder in _FOLDERS for name in _json_files(os.path.join(path, folder))]
    files = [CocoFile(one, _split_in(one)) for one in found if _is_coco(os.path.join(path, one))]
    boxes = [file for file in files if not _OTHER_TASKS.search(file.path)] or files
    with_split = [file for file in boxes if file.split is not None]
    return os.fspath(path), with_split or boxes


def open_coco(
    path: str | os.PathLike[str], *, keep_outlines: bool = False
) -> tuple[str, list[tuple[CocoFile, dict[str, Any]]], dict[int, str]]:
    """Return the folder of a data set, its files with their content, and the names of the categories by id.

    Raises:
        UsageError: there is no file in COCO's form; see also ``load_coco`` and ``merge_categories``.
    """
    root, files = find_coco_files(path)
    if not files:
        raise UsageError(f"{os.fspath(path)} holds no COCO JSON: looked for *.json in it, in annotations and in train.")
    sets = [(file, load_coco(join(root, file.path), keep_outlines=keep_outlines)) for file in files]
    return root, sets, merge_categories(sets)


def load_coco(path: str | os.PathLike[str], *, keep_outlines: bool = False) -> dict[str, Any]:
    """Return the content of a COCO file, with ``images``, ``annotations`` and ``categories``.

    Raises:
        UsageError: it is no JSON, or lacks one of these.
    """
    try:
        content = json.loads(read_text(path), object_hook=None if keep_outlines else _without_outline)
    except json.JSONDecodeError as error:
        raise UsageError(f"{os.fspath(path)}, line {error.lineno}: no JSON: {error.msg}.") from error
    lacks = [name for name in ("images", "annotations", "categories") if not _is_list_of_dicts(content, name)]
    if lacks:
        raise UsageError(
            f"{os.fspath(path)} must hold images, annotations and categories; it lacks {', '.join(lacks)}."
        )
    return dict(content)


def merge_categories(sets: Sequence[tuple[CocoFile, Mapping[str, Any]]]) -> dict[int, str]:
    """Return the names of the categories by id.

    A category with id 0 that only groups the others, as Roboflow adds one, or that is called "background", is left out
    where nothing belongs to it.

    Raises:
        UsageError: an id has two names.
    """
    names: dict[int, str] = {}
    parents: dict[int, str] = {}
    for file, content in sets:
        for one in content["categories"]:
            number, name = one.get("id"), one.get("name")
            if not _is_whole(number) or not isinstance(name, str) or not name.strip():
                continue  # its annotations are reported as those of a category without a name
            if names.setdefault(number, name) != name:
                raise UsageError(f"{file.path}: category {number} is {name!r}, and {names[number]!r} in another file.")
            parents[number] = str(one.get("supercategory") or "")
    used = {str(one.get("category_id")) for _, content in sets for one in content["annotations"]}
    others = {parent for number, parent in parents.items() if number != 0}
    if 0 in names and "0" not in used:
        groups_others = parents[0] in _NO_PARENT and others == {names[0]}
        if groups_others or names[0].lower() == BACKGROUND:
            del names[0]
    return names


def _add_images(records: BoxRecords, file: CocoFile, places: JsonPlaces) -> dict[Any, int]:
    """Add the images of a file, and return their numbers by id; -1 of those that are left out."""
    finder = CocoFinder(records.root, file)
    numbers: dict[Any, int] = {}
    for entry, one in enumerate(places.content["images"], 1):
        place, name, number = places.of("images", entry), one.get("file_name"), one.get("id")
        if not isinstance(name, str) or not is_key(number) or number in numbers:
            reason = f"id {number!r} is there already" if is_key(number) and number in numbers else "no id or file_name"
            records.problems.append(f"{place}: {reason}; left out")
            continue
        path, why_not = finder.find(name)
        if path is None:
            records.problems.append(f"{place}: {why_not}")
        added = None if path is None else records.add_image(path, place, split=file.split, stated=stated_size(one))
        numbers[number] = -1 if added is None else added
    return numbers


def _add_annotation(
    records: BoxRecords, images: Mapping[Any, int], labels: Mapping[Any, int], one: Mapping[str, Any], entry: int
) -> str:
    """Add a box; return what is wrong with it, and nothing where its image is left out."""
    image_id, category = one.get("image_id"), one.get("category_id")
    if not is_key(image_id) or image_id not in images:
        return f"there is no image with id {image_id!r}"
    if not is_key(category) or category not in labels:
        return f"there is no category with id {category!r} and a name"
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"bbox must be [left, top, width, height], got {box!r}"
    if images[image_id] >= 0:
        left, top, width, height = box
        sides = (left, top, left + width, top + height)
        records.add_box(images[image_id], sides, labels[category], entry, is_crowd=bool(one.get("iscrowd")))
    return ""


class CocoFinder:
    """Finds the images of a file: in the folders where they usually lie, else by name."""

    def __init__(self, root: str, file: CocoFile):
        self.root = root
        self.split = file.split
        self._folders = list(dict.fromkeys(_image_folders(file)))
        self._by_name = ImageFinder(root)

    def find(self, name: str) -> tuple[str | None, str]:
        """Return the path of an image, or None and why there is none."""
        for place, folder in enumerate(self._folders):
            path = os.path.normpath(os.path.join(folder, name))
            if os.path.isfile(os.path.join(self.root, path)):
                self._folders.insert(0, self._folders.pop(place))  # the next one is likely there too
                return path, ""
        return self._by_name.find(name, self.split)


def _image_folders(file: CocoFile) -> Iterator[str]:
    """Yield the folders, relative to the root, in which the images of a file may lie; the likeliest first."""
    folder, stem = os.path.split(os.path.splitext(file.path)[0])
    # "instances_train2017" belongs to "train2017".
    parts = dict.fromkeys((stem.partition("_")[2] or stem, *_words(stem), file.split or "", ""))
    for base in dict.fromkeys((folder, os.path.dirname(folder), "")):
        for part in parts:
            yield join(base, part)
            yield join(join(base, "images"), part)


def _split_in(path: str) -> str | None:
    """Return the part of a split that a path names by a word of its file's name, or by its folder."""
    folder, name = os.path.split(path)
    words = _words(os.path.splitext(name)[0])
    return next((split for word in (*words[::-1], os.path.basename(folder)) if (split := split_of(word))), None)


def _words(stem: str) -> list[str]:
    return [word for word in re.split(r"[^A-Za-z]+", stem) if word]


def _json_files(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(name for name in names if name.lower().endswith(".json") and not name.startswith("."))


def _is_coco(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return False
    return head.startswith(b"{") and _KEYS.search(head) is not None


def _without_outline(one: dict[str, Any]) -> dict[str, Any]:
    # While the file is parsed: outlines are nine tenths of it.
    one.pop("segmentation", None)
    return one


def _is_list_of_dicts(content: Any, name: str) -> bool:
    values = content.get(name) if isinstance(content, dict) else None
    return isinstance(values, list) and all(isinstance(one, dict) for one in values)


def stated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height as an image states them, 0 for what is no number; None where it has neither."""
    sides: list[Any] = [image.get(name) for name in ("width", "height")]
    if sides == [None, None]:
        return None
    width, height = (int(side) if _is_number(side) and 0 <= side < float("inf") else 0 for side in sides)
    return width, height


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_key(value: Any) -> bool:
    """Whether a value can be an id: a text or a whole number."""
    return isinstance(value, str) or _is_whole(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
