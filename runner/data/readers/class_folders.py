"""Read a folder per class, with or without folders of a split around the classes."""

import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.callbacks.errors import UsageError, listing

from .class_names import CLASSES, alike, in_order, match_names, read_class_names
from .folder_tree import FolderTree, join, shown_paths, split_of
from .item_list import Column, ItemList, counted
from .tables import tables_in


def read_class_folders(path: str | os.PathLike[str]) -> ItemList:
    """Read images that lie in one folder per class.

    ::

        photos/cat/1.jpg                  or, with a split:      photos/train/cat/1.jpg
        photos/dog/2019/2.jpg                                    photos/val/dog/2.jpg

    The first folder names the class; those below it are gone through. Parts of a split are ``train``, ``valid`` (or
    ``val``) and ``test``. A folder that holds nothing but one other folder is passed through. Hidden files and folders
    are left out, links are followed, suffixes may be in upper case. Classes are sorted by name, or by number where all
    names are numbers. ``classes.txt`` beside the classes sets their order, one name per line; of folders that are
    numbered from 0 or 1, it gives the names. The parts may also lie within the classes, as in ``cat/train/1.jpg``.

    Args:
        path: the folder.

    Returns:
        Items with ``image``, ``target`` and, where there is a split, ``split``.

    Raises:
        UsageError: there are no folders with images.
    """
    if not os.path.isdir(path):
        raise UsageError(f"{os.fspath(path)} is not a folder.")
    tree = FolderTree(path)
    base = _pass_through(tree)
    parts, problems = _find_parts(tree, base)
    folders = _find_classes(tree, parts, problems)
    found = [(folder, tree.images_below(folder.path)) for folder in folders]
    names, target_of = _name_classes(tree, base, found, problems)
    kept = [(folder, images) for folder, images in found if folder.name in target_of and images]
    counts = [len(images) for _, images in kept]
    if not counts:
        raise _nothing_found(tree, base, problems)
    problems += _compare_parts(kept)
    images = [image for _, of_folder in kept for image in of_folder]
    columns: dict[str, Column] = {
        "image": images,
        "sample_id": images,
        "target": np.repeat(np.array([target_of[folder.name] for folder, _ in kept]), counts),
    }
    if any(folder.split for folder, _ in kept):
        columns["split"] = [folder.split for folder, of_folder in kept for _ in of_folder]
    layout = f"a folder per class, in {base}" if base else "a folder per class"
    problems += [*tree.problems, *_unread_tables(Path(tree.root, base))]
    return ItemList(path, columns, task="multiclass", layout=layout, class_names=names, problems=problems)


def looks_like(path: Path) -> bool:
    """Whether a path is a folder that holds at least two folders of classes with images."""
    if not path.is_dir():
        return False
    tree = FolderTree(path)
    parts, _ = _find_parts(tree, _pass_through(tree))
    names: set[str] = set()
    for folder in _find_classes(tree, parts, []):
        # Two are enough: a million images are not listed for this.
        if folder.name not in names and tree.has_images(folder.path):
            names.add(folder.name)
        if len(names) > 1:
            return True
    return False


@dataclass(frozen=True)
class _Folder:
    """A folder of a split (``name`` is ""), or one of a class."""

    path: str
    split: str | None
    name: str = ""


def _pass_through(tree: FolderTree) -> str:
    """Return the folder that holds classes or parts: the root, or what lies alone in it."""
    folder = ""
    while not tree.images(folder) and len(tree.folders(folder)) == 1:
        inner = join(folder, tree.folders(folder)[0])
        if split_of(tree.folders(folder)[0]) or tree.images(inner) or not tree.folders(inner):
            break
        folder = inner
    return folder


def _find_parts(tree: FolderTree, base: str) -> tuple[list[_Folder], list[str]]:
    """Return the folders of a split, or the one without, and what lies beside them."""
    names = tree.folders(base)
    # A class may be called "train" or "test" too, among others: its images lie in it, those of a part in folders.
    with_folders = [name for name in names if split_of(name) and tree.folders(join(base, name))]
    are_parts = bool(names) and all(map(split_of, names))
    if not any(split_of(name) == "train" for name in with_folders) and not are_parts:
        tree.claim(["", base])
        return [_Folder(base, None)], _without_class(tree, [base])
    parts = [_Folder(join(base, name), split_of(name)) for name in names if split_of(name)]
    claimed = tree.claim(["", base, *(part.path for part in parts)])
    parts = [part for part in parts if part.path in claimed]
    beside = [join(base, name) for name in names if not split_of(name)]
    problems = [f"{name}: left out, as it lies beside train" for name in beside if tree.has_images(name)]
    return parts, problems + _without_class(tree, [base, *(part.path for part in parts)])


def _without_class(tree: FolderTree, folders: Sequence[str]) -> list[str]:
    return [
        f"{folder or 'the data set'}: {counted(len(tree.images(folder)), 'image')} in no folder of a class; left out "
        f"{shown_paths([join(folder, name) for name in tree.images(folder)])}"
        for folder in folders
        if tree.images(folder)
    ]


def _find_classes(tree: FolderTree, parts: Sequence[_Folder], problems: list[str]) -> list[_Folder]:
    folders = [
        # Systems write "é" as one character or as two.
        _Folder(join(part.path, name), part.split, unicodedata.normalize("NFC", name))
        for part in parts
        for name in tree.folders(part.path)
    ]
    folders = _claimed(tree, folders)
    return folders if parts[0].split else _split_within(tree, folders, problems)


def _split_within(tree: FolderTree, folders: list[_Folder], problems: list[str]) -> list[_Folder]:
    """Return the folders of parts within those of classes, where all classes hold nothing else; else the classes."""
    held = [folder for folder in folders if tree.has_images(folder.path)]
    divided = [folder for folder in held if _holds_parts(tree, folder.path)]
    if divided != held or not divided:
        problems += [
            f"{folder.path}: its folders {listing(tree.folders(folder.path))} are no parts of a split, as "
            f"{next(one.path for one in held if one not in divided)} has images outside of such folders"
            for folder in divided
        ]
        return folders
    inner = [
        _Folder(join(folder.path, name), split_of(name), folder.name)
        for folder in held
        for name in tree.folders(folder.path)
    ]
    return _claimed(tree, inner)


def _holds_parts(tree: FolderTree, folder: str) -> bool:
    parts = [split_of(name) for name in tree.folders(folder)]
    return "train" in parts and None not in parts and not tree.images(folder)


def _claimed(tree: FolderTree, folders: list[_Folder]) -> list[_Folder]:
    claimed = set(tree.claim([folder.path for folder in folders]))
    return [folder for folder in folders if folder.path in claimed]


def _name_classes(
    tree: FolderTree, base: str, found: Sequence[tuple[_Folder, list[str]]], problems: list[str]
) -> tuple[list[str], Mapping[str, int]]:
    """Return the names of the classes, and the number of each folder name."""
    counts: Counter[str] = Counter()
    for folder, images in found:
        counts[folder.name] += len(images)
    problems += [f"{name}: no image in it; it is no class" for name, count in counts.items() if not count]
    folders = in_order(name for name, count in counts.items() if count)
    problems += alike(folders)
    file = next((join(of, CLASSES) for of in (base, "") if os.path.isfile(join(tree.root, join(of, CLASSES)))), None)
    if file is None:
        return folders, {name: number for number, name in enumerate(folders)}
    names = read_class_names(Path(tree.root, file))
    target_of = match_names(file, names, folders)
    problems += [f"{name}: left out, as {file} does not name it" for name in folders if name not in target_of]
    unused = [name for number, name in enumerate(names) if number not in target_of.values()]
    problems += [f"{file}: there is no image of {name!r}" for name in unused]
    return names, target_of


def _compare_parts(kept: Sequence[tuple[_Folder, list[str]]]) -> list[str]:
    """Return a line for each class that one can be tested for and not trained on."""
    trained = {folder.name for folder, _ in kept if folder.split == "train"}
    others = [folder for folder, _ in kept if folder.split not in (None, "train") and folder.name not in trained]
    return [f"{folder.path}: a class without an image in train" for folder in others if trained]


def _unread_tables(folder: Path) -> list[str]:
    return [
        f"{file.name}: not read, as folders name the classes; --data-dir {file} reads it" for file in tables_in(folder)
    ]


def _nothing_found(tree: FolderTree, base: str, problems: Sequence[str]) -> UsageError:
    folders = tree.folders(base)
    images = counted(len(tree.images(base)), "image")
    found = f"{images} in the folder itself and {counted(len(folders), 'folder')} without images"
    if folders and all(map(split_of, folders)) and problems:
        found = problems[0]
    return UsageError(
        f"{join(tree.root, base)} holds no folder per class: looked for images such as "
        f"{join(join(tree.root, base), 'cat/1.jpg')}, found {found}."
    )
