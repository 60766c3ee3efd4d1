"""Read boxes from the text files of YOLO."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from assay.callbacks.errors import UsageError

from .box_records import BoxRecords, Sides
from .class_names import read_class_names, read_text
from .folder_tree import FolderTree, is_image_name, join, shown_paths, split_of
from .item_list import ItemList

_PARTS = {"train": "train", "val": "valid", "valid": "valid", "validation": "valid", "test": "test"}  # keys of a YAML
_CLASS_FILES = ("classes.txt", "obj.names", "classes.names", "labels/classes.txt", "labels.txt")
_LISTS = ("train.txt", "valid.txt", "val.txt", "test.txt")
_IMAGES, _LABELS = "images", "labels"
_LOOKED_AT = 20  # text files beside images, to see whether they are labels


def read_yolo(path: str | os.PathLike[str]) -> ItemList:
    """Read the boxes of a data set in the form of YOLO.

    ``path`` is a YAML file with ``names`` and ``train``, ``val`` and ``test``, each a folder, a list of folders, or a
    text file that lists images; or a folder that holds such a YAML, or just ``images`` and ``labels``::

        data.yaml                     names: [cat, dog]   or   names: {0: cat, 1: dog}
        images/train/1.jpg            labels/train/1.txt          or:   train/images/1.jpg   train/labels/1.txt

    The labels of an image are in the file that has ``labels`` in place of the last ``images`` in its path, else beside
    it. A line is ``class x y width height``, with the centre of the box, all as shares of the upright image; or ``class
    x1 y1 x2 y2 x3 y3 ...``, an outline, whose box is taken. Where the YAML has ``kpt_shape``, what follows the box are
    keypoints. Without a YAML, labels may lie beside their images. An empty file is an image without objects. So is a
    missing one, as in ultralytics, and one line of ``problems`` counts these. Without a YAML the names are in
    ``classes.txt``, or else classes are called by number.

    Returns:
        Items with ``image``, ``bboxes``, ``labels`` and ``split``.

    Raises:
        UsageError: there are no images in the place that the YAML names, or nothing is left to learn from.
    """
    file = _find_yaml(path)
    settings = _load_settings(file) if file else {}
    root = os.path.dirname(os.fspath(file)) or "." if file else os.fspath(path)
    reader = _LabelReader(root, _class_names(settings, root, file), has_keypoints="kpt_shape" in settings)
    problems = reader.records.problems
    parts = _listed_parts(settings, root, file, problems) if file else _parts_by_folder(root, problems)
    for split, images in parts:
        for image, place in images:
            reader.add(image, place, split)
    return reader.to_items()


def looks_like(path: Path) -> bool:
    """Whether a path is the YAML of a YOLO data set, or a folder with one, or with images and their text files."""
    if _find_yaml(path) is not None:
        return True
    if not path.is_dir():
        return False
    if any(next(iter(folder.rglob("*.txt")), None) for folder in _label_folders(path)):
        return True
    return any(map(_holds_labels, (path, *filter(Path.is_dir, path.iterdir()))))


class _LabelReader:
    """Reads the labels of images, one file after the other.

    Args:
        root: the folder that paths are relative to.
        names: of the classes by number; None where they are not known.
        has_keypoints: whether numbers after the first five are keypoints, and no outline.
    """

    def __init__(self, root: str, names: Mapping[int, str] | None, *, has_keypoints: bool):
        self.names = names
        self.has_keypoints = has_keypoints
        self.found: set[int] = set()  # classes
        self.without_file: list[str] = []
        self.files: list[str] = []  # of labels, by image
        self.boxes: list[tuple[int, Sides, int, int]] = []
        self.records = BoxRecords(root, lambda image, entry: f"{self.files[image]}, line {entry}", are_shares=True)

    def add(self, image: str, place: str, split: str | None) -> None:
        root = self.records.root
        file = next((one for one in _label_files(image) if os.path.isfile(os.path.join(root, one))), None)
        try:
            lines = read_text(os.path.join(root, file)).splitlines() if file else []
        except UsageError as error:
            self.records.problems.append(f"{error}: {image} is left out")
            return
        number = self.records.add_image(image, place, split=split)
        if number is None:
            return
        self.files.append(file or "")
        if file is None and os.path.isfile(os.path.join(root, image)):
            self.without_file.append(image)
        for entry, line in enumerate(lines, 1):
            if line.strip():
                self._add_line(number, line, entry)

    def to_items(self) -> ItemList:
        problems = self.records.problems
        if self.without_file:
            count = f"{len(self.without_file):,} of {len(self.files):,} images have no file of labels"
            problems.append(f"{count}, and count as images without objects: {shown_paths(self.without_file)}")
        names = self.names if self.names is not None else {number: str(number) for number in sorted(self.found)}
        label_of = {number: label for label, number in enumerate(sorted(names), 1)}
        for image, sides, number, entry in self.boxes:
            self.records.add_box(image, sides, label_of[number], entry)
        return self.records.to_items("YOLO", [names[number] for number in sorted(names)])

    def _add_line(self, image: int, line: str, entry: int) -> None:
        parsed = parse_label_line(line, has_keypoints=self.has_keypoints)
        if isinstance(parsed, str):
            self.records.problems.append(f"{self.files[image]}, line {entry}: {parsed}; left out")
            return
        number, sides = parsed
        if self.names is not None and number not in self.names:
            self.records.problems.append(f"{self.files[image]}, line {entry}: class {number} has no name; left out")
            return
        self.found.add(number)
        self.boxes.append((image, sides, number, entry))


def parse_label_line(line: str, *, has_keypoints: bool = False) -> tuple[int, Sides] | str:
    """Return class number and box of a line of labels, or what is wrong with it.

    Example:
        >>> parse_label_line("2 0.5 0.5 0.5 0.25")
        (2, (0.25, 0.375, 0.75, 0.625))
        >>> parse_label_line("2 0.1 0.1 0.3 0.1 0.2 0.4")
        (2, (0.1, 0.1, 0.3, 0.4))
        >>> parse_label_line("2 0.5 0.5")
        "it must be 'class x y width height' or a class and the points of an outline, got '2 0.5 0.5'"
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    is_box = len(values) == 5 or (has_keypoints and len(values) > 5)
    if not is_box and (len(values) < 7 or len(values) % 2 == 0):
        return f"it must be 'class x y width height' or a class and the points of an outline, got {line.strip()!r}"
    if values[0] < 0 or not values[0].is_integer() or not all(map(math.isfinite, values)):
        return f"a class must be a number from 0 on, and all others finite, got {line.strip()!r}"
    if not is_box:
        return int(values[0]), (min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2]))
    x, y, width, height = values[1:5]
    return int(values[0]), (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _find_yaml(path: str | os.PathLike[str]) -> str | None:
    """Return the YAML file of a data set: the path itself, or the only one in the folder that has ``train``."""
    if os.path.isfile(path):
        is_yaml = os.fspath(path).lower().endswith((".yaml", ".yml"))
        return os.fspath(path) if is_yaml and "train" in _load_settings(path, strict=False) else None
    files = sorted(one for pattern in ("*.yaml", "*.yml") for one in Path(path).glob(pattern))
    found = [os.fspath(one) for one in files if "train" in _load_settings(one, strict=False)]
    if len(found) > 1:
        raise UsageError(f"{os.fspath(path)} holds {len(found)} YAML files of data sets; give one: {', '.join(found)}.")
    return found[0] if found else None


def _load_settings(path: str | os.PathLike[str], *, strict: bool = True) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, UsageError) as error:
        if not strict:
            return {}
        raise UsageError(f"{os.fspath(path)}: no YAML: {' '.join(str(error).split())}.") from error
    return settings if isinstance(settings, dict) else {}


def _class_names(settings: Mapping[str, Any], root: str, file: str | None) -> dict[int, str] | None:
    """Return the names of the classes by number; None where nothing tells them."""
    names = settings.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if isinstance(names, dict) and names and all(isinstance(number, int) for number in names):
        return {number: str(name) for number, name in names.items() if name is not None and str(name).strip()}
    if names is not None:
        raise UsageError(f"{file}: names must be a list of names, or names by number, got {names!r}.")
    path = next((one for one in _CLASS_FILES if os.path.isfile(join(root, one))), None)
    return dict(enumerate(read_class_names(join(root, path)))) if path else None


_Images = list[tuple[str, str]]  # paths, and where each is named


def _listed_parts(
    settings: Mapping[str, Any], root: str, file: str, problems: list[str]
) -> list[tuple[str | None, _Images]]:
    """Return the images of each part that the YAML names, and add what is wrong with it to the problems."""
    bases, shown = _bases(settings, root), os.path.basename(file)
    taken: dict[str, str] = {}  # the key that names a folder or a file first
    parts: list[tuple[str | None, _Images]] = []
    for key, source in _sources(settings):
        places = _places(bases, source)
        found = next((one for one in places if os.path.exists(one)), None)
        if found is None and key != "test":
            raise UsageError(f"{file}: {key}: {source} is not there: looked for {' and '.join(places)}.")
        if found is None:  # exports name one, whether there is one or not
            problems.append(f"{shown}: {key}: {source} is not there")
        elif taken.setdefault(found, key) != key:
            problems.append(f"{shown}: {key}: {source} is that of {taken[found]} already; left out")
        else:
            images = _images_in_folder(root, found) if os.path.isdir(found) else _images_in_list(root, bases, found)
            parts.append((_PARTS[key], images))
    return parts


def _sources(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the keys of parts, each with a folder or a file that it names."""
    named = [(key, settings[key]) for key in _PARTS if settings.get(key)]
    return [(key, str(one)) for key, value in named for one in (value if isinstance(value, list) else [value])]


def _bases(settings: Mapping[str, Any], root: str) -> list[str]:
    """Return the folders that paths in a YAML may be relative to."""
    stated = settings.get("path")
    # The path is often one of the machine that the data set was made on.
    bases = [os.path.join(root, str(stated)), str(stated)] if stated else []
    return [base for base in dict.fromkeys((*bases, root)) if os.path.isdir(base)]


def _places(bases: Sequence[str], source: str) -> list[str]:
    # Roboflow writes "../train/images" for what lies in a folder beside the YAML.
    stripped = source.removeprefix("../") if source.startswith("../") else source
    return list(
        dict.fromkeys(os.path.normpath(os.path.join(base, one)) for one in (source, stripped) for base in bases)
    )


def _images_in_folder(root: str, folder: str) -> _Images:
    tree = FolderTree(folder)
    tree.claim([""])
    shown = _relative(folder, root)
    return [(join("" if shown == "." else shown, image), shown) for image in tree.images_below("")]


def _images_in_list(root: str, bases: Iterable[str], file: str) -> _Images:
    images, shown = [], _relative(file, root)
    folders = (*bases, os.path.dirname(file))
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if name := line.strip():
            found = next((one for one in (os.path.join(of, name) for of in folders) if os.path.isfile(one)), name)
            images.append((_relative(found, root) if os.path.isfile(found) else name, f"{shown}, line {number}"))
    return images


def _relative(path: str, root: str) -> str:
    """Return a path relative to the root where it lies in it, else as it is."""
    relative = os.path.relpath(path, root)
    return os.path.abspath(path) if relative.startswith("..") else relative


def _parts_by_folder(root: str, problems: list[str]) -> list[tuple[str | None, _Images]]:
    """Return the images of a folder without a YAML, by the names of the folders that they lie in."""
    lists = [one for one in _LISTS if os.path.isfile(os.path.join(root, one))]
    problems += [f"{one}: left out, as a list of images needs a YAML file that names it" for one in lists]
    parts: dict[str | None, _Images] = {}
    for image, place in _images_in_folder(root, root):
        folders = [name for name in image.split("/")[:-1] if name != _IMAGES]
        split = next((split for name in folders if (split := split_of(name))), None)
        parts.setdefault(split, []).append((image, place))
    return list(parts.items())


def _label_files(image: str) -> list[str]:
    """Return the files that may hold the labels of an image, the likelier first."""
    folders, stem = image.split("/")[:-1], os.path.splitext(image)[0]
    beside = f"{stem}.txt"
    if _IMAGES not in folders:
        return [beside]
    place = len(folders) - 1 - folders[::-1].index(_IMAGES)
    parts = beside.split("/")
    return ["/".join((*parts[:place], _LABELS, *parts[place + 1 :])), beside]


def _label_folders(path: Path) -> list[Path]:
    """Return the folders of labels that lie as those of YOLO do."""
    beside = [path / _LABELS, *path.glob(f"*/{_LABELS}")]
    return [folder for folder in beside if folder.is_dir() and (folder.parent / _IMAGES).is_dir()]


def _holds_labels(folder: Path) -> bool:
    """Whether a folder holds text files of labels beside images of the same name."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    images = {os.path.splitext(name)[0] for name in names if is_image_name(name)}
    files = [name for name in names if name.endswith(".txt") and name.removesuffix(".txt") in images]
    return any(map(_begins_with_a_label, (folder / name for name in files[:_LOOKED_AT])))


def _begins_with_a_label(file: Path) -> bool:
    try:
        words = read_text(file).strip().partition("\n")[0]
    except UsageError:
        return False
    return not isinstance(parse_label_line(words), str)
