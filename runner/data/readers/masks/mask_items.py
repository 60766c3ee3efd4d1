"""Items of images and mask files: checked by their headers, with the classes that the masks hold."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.callbacks.errors import UsageError

from ..item_list import CLASSES_OF_MASKS, ItemList, MadeOnDemand, Texts
from .class_files import find_class_file
from .mask_classes import MaskClasses, find_classes, shown
from .mask_scan import compare_sizes, scan_masks


class MaskFiles(MadeOnDemand[np.ndarray]):
    """Masks that are read when they are asked for, [H, W] uint8 with classes, and 255 of what does not count.

    Args:
        root: the folder of relative paths.
        paths: of the files.
        classes: which class a stored value is.
    """

    def __init__(self, root: str | os.PathLike[str], paths: Sequence[str], classes: MaskClasses):
        self.root, self.classes = os.fspath(root), classes
        self.paths = Texts(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def make(self, place: int) -> np.ndarray:
        return self.classes.read(os.path.join(self.root, self.paths[place] or ""))


def make_items(
    root: str | os.PathLike[str],
    columns: dict[str, list[Any]],
    *,
    layout: str,
    problems: list[str],
    places: Sequence[str] | None = None,
    class_folders: Sequence[str] = (),
    extra_columns: dict[str, list[Any]] | None = None,
    unnamed: MaskClasses | None = None,
) -> ItemList:
    """Return the items of pairs, without those that do not go together.

    Args:
        root: the folder of the data set.
        columns: ``image`` and ``target``, paths relative to the root, and others.
        layout: what was found, in words.
        problems: what was left out before.
        places: where each pair is named, for messages about it; None: nowhere but by its files.
        class_folders: where a file may name the classes, beside the root itself.
        extra_columns: see ``ItemList``.
        unnamed: the classes where no file names them; None: they are found by what the masks hold.

    Raises:
        UsageError: no pair is left, or the classes cannot be told.
    """
    root, extra_columns = os.fspath(root), extra_columns or {}
    wrong = compare_sizes(root, columns["image"], columns["target"])
    kept = [place for place in range(len(columns["image"])) if place not in wrong]
    scanned = scan_masks(root, [columns["target"][place] for place in kept])
    found = {kept[place]: of for place, of in scanned.items()}
    if not found:
        first = next(iter([*wrong.values(), *problems]), "")
        raise UsageError(f"{root}: no image with its mask is left of {len(columns['image'])}: {first or 'none'}.")
    file = find_class_file(root, *(os.path.join(root, folder) for folder in class_folders))
    classes = unnamed if unnamed and file is None else find_classes(root, file, list(found.values()))
    for place, one in found.items():
        if one.problem:
            wrong[place] = f"{one.problem}; left out"
        elif unknown := classes.unknown(one.values):
            values = shown(unknown, are_colours=one.is_colours)
            mask = columns["target"][place]
            wrong[place] = f"{mask} holds {values}, and the classes are {classes.described}; left out"
    order = [place for place in range(len(columns["image"])) if place not in wrong]
    lines = [_line(places, place, text) for place, text in sorted(wrong.items())]
    if not order:
        raise UsageError(f"{root}: no image with its mask is left of {len(columns['image'])}: {lines[0]}.")
    parts: dict[str, Sequence[Any]] = {name: [of[place] for place in order] for name, of in columns.items()}
    parts["target"] = MaskFiles(root, [columns["target"][place] for place in order], classes)
    extra = {name: [of[place] for place in order] for name, of in extra_columns.items()}
    if all(place in found for place in order):  # not of large sets, of which some masks alone were looked at
        extra[CLASSES_OF_MASKS] = [classes.held(found[place].values) for place in order]
    items = ItemList(
        root,
        parts,
        task="segmentation",
        layout=f"{layout} ({classes.described})",
        class_names=classes.names,
        problems=[*problems, *lines],
        extra_columns=extra,
    )
    items.palette = classes.palette
    return items


def _line(places: Sequence[str] | None, place: int, text: str) -> str:
    return text if places is None else f"{places[place]}: {text}"
