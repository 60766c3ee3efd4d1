"""Read images and masks that belong together by their names."""

import os
from collections.abc import Sequence
from pathlib import Path

from assay.callbacks.errors import UsageError

from ..class_names import read_text
from ..folder_tree import FolderTree, join
from ..item_list import ItemList
from . import cityscapes
from .mask_classes import MaskClasses
from .mask_items import make_items
from .pairs import MaskPart, Pair, find_parts, mask_stems, pair_up

_LISTS = {"train": "train", "val": "valid", "test": "test"}  # of Pascal VOC, in ImageSets/Segmentation


def read_mask_folders(path: str | os.PathLike[str], *, classes: MaskClasses | None = None) -> ItemList:
    """Read images and masks that have the same name, in two folders or in one.

    ::

        tiles/images/1.jpg        tiles/train/images/1.jpg      tiles/images/train/1.jpg      tiles/1_sat.jpg
        tiles/masks/1.png         tiles/train/masks/1.png       tiles/masks/train/1.png       tiles/1_mask.png
        tiles/classes.txt         tiles/val/images/2.jpg        tiles/images/val/2.jpg        tiles/2_sat.jpg

    Folders of masks may also be called ``labels``, ``annotations``, ``gt``, ``segmentation`` and the like, or
    ``train_masks`` beside ``train``; names of masks may end in ``_mask``, ``_label``, ``_gt`` and the like. Of Pascal
    VOC, the lists in ``ImageSets/Segmentation`` are the split. Of Cityscapes, ``*_labelTrainIds`` or ``*_labelIds`` are
    read, and the classes are the 19 by which it is scored.

    What the values of masks are is found in this order:

    1. A file beside the folders, such as ``classes.txt`` or ``label_colors.txt``: a class per line, by its name alone
       in the order of the numbers, or with a value (``7 road``) or a colour (``128 64 128 road``). What it calls void,
       unlabeled or ignore does not count.
    2. Without names: 0 and 255 are background and object, numbers are classes, grey levels at equal distances and
       colours are classes by their order. The colours of a palette are kept to show the classes.

    255 does not count where it is no class. A mask is read when its item is asked for; what it holds is looked at
    before, of large sets in some of the masks alone.

    Args:
        path: the folder.
        classes: those of the masks where no file names them; None: they are found by what the masks hold.

    Returns:
        Items with ``image``, ``target`` (arrays [H, W] uint8: classes, and 255 of what does not count) and, where there
        is one, ``split``.

    Raises:
        UsageError: there are no pairs, or it cannot be told which classes the masks hold.
    """
    if not os.path.isdir(path):
        raise UsageError(f"{os.fspath(path)} is not a folder.")
    tree, problems = FolderTree(path), list[str]()
    parts = find_parts(tree)
    kind = cityscapes.numbers_among(stem for part in parts for stem in mask_stems(tree, part))
    pairs = [pair for part in parts for pair in pair_up(tree, part, problems, kind)]
    pairs = _by_lists(tree, parts, pairs, problems)
    if not pairs:
        raise UsageError(_nothing_found(tree, parts, problems))
    columns: dict[str, list[object]] = {
        "image": [pair.image for pair in pairs],
        "sample_id": [pair.image for pair in pairs],
        "target": [pair.mask for pair in pairs],
    }
    if any(pair.split for pair in pairs):
        columns["split"] = [pair.split for pair in pairs]
    first = next(part for part in parts if part.masks is not None)
    layout = f"{_name(first.images)} and {_name(first.masks or '')}"
    if first.images == first.masks:
        layout = "images and masks in one folder"
    bases = list(dict.fromkeys(os.path.dirname(part.images) for part in parts))
    return make_items(
        path,
        columns,
        layout=layout,
        problems=[*problems, *tree.problems],
        class_folders=bases,
        unnamed=cityscapes.classes_of(kind) if kind else classes,
    )


def looks_like(path: Path) -> bool:
    """Whether a path is a folder with images and masks."""
    return path.is_dir() and any(part.masks is not None for part in find_parts(FolderTree(path)))


def _name(folder: str) -> str:
    return f"{folder}/" if folder else "the folder itself"


def _by_lists(tree: FolderTree, parts: Sequence[MaskPart], pairs: list[Pair], problems: list[str]) -> list[Pair]:
    """Return the pairs that the lists of Pascal VOC name, with their part of the split."""
    for part in parts:
        base = os.path.dirname(part.images)
        folder = Path(tree.root, base, "ImageSets", "Segmentation")
        files = {split: folder / f"{name}.txt" for name, split in _LISTS.items() if (folder / f"{name}.txt").is_file()}
        if "train" not in files:
            continue
        by_name = {os.path.splitext(os.path.basename(pair.image))[0]: pair for pair in pairs}
        unlisted = [line for line in problems if ": no mask in " in line]  # most images of VOC have boxes alone
        problems[:] = [line for line in problems if line not in set(unlisted)]
        return [pair for split, file in files.items() for pair in _listed(tree, file, split, by_name, problems)]
    return pairs


def _listed(tree: FolderTree, file: Path, split: str, by_name: dict[str, Pair], problems: list[str]) -> list[Pair]:
    found: list[Pair] = []
    for line, name in enumerate(read_text(file).splitlines(), 1):
        pair = by_name.pop(name.strip(), None)
        if pair is not None:
            found.append(Pair(pair.image, pair.mask, split))
        elif name.strip():
            where = os.path.relpath(file, tree.root)
            why = "has no image and mask, or is listed before"
            problems.append(f"{where}, line {line}: {name.strip()} {why}; left out")
    return found


def _nothing_found(tree: FolderTree, parts: Sequence[MaskPart], problems: Sequence[str]) -> str:
    if parts:
        folders = join(tree.root, parts[0].images), join(tree.root, parts[0].masks or "")
        first = f": {problems[0]}" if problems else ""
        return f"{folders[0]} and {folders[1]} hold no image and mask of one name{first}."
    found = ", ".join([f"{name}/" for name in tree.folders("")] + tree.images("")[:3]) or "nothing"
    return (
        f"{tree.root} holds no images with masks: looked for images/ and masks/, also below train/ and valid/, and for "
        f"names such as 1.jpg with 1_mask.png; found {found}."
    )
