"""Find the image that a table or an annotation names: by path, without its suffix, or anywhere below a folder."""

import os
import posixpath
from collections import defaultdict
from itertools import takewhile

from .folder_tree import FolderTree, is_image_name, join, shown_paths, split_of


class ImageFinder:
    """Finds images by what names them; each folder is listed once, however many are looked for.

    An image is looked for at its path relative to the root; then, in the same folder, with the case ignored, and
    without its suffix if the text has none; then by its name in all folders below the root, first in those that share
    more of the path. If a folder of the given name holds images there, it is taken from no other one.

    Args:
        root: the folder.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = os.fspath(root)
        self._exact: dict[str, set[str]] = {}
        self._loose: dict[str, dict[str, list[str]]] = {}
        self._below: dict[str, list[str]] | None = None
        self._folders: set[str] = set()

    def find(self, text: str, split: str | None = None) -> tuple[str | None, str]:
        """Return the path of an image relative to the root, with slashes, and ""; or None and why there is none.

        Args:
            text: what names it.
            split: of several images of that name, the one in a folder of this split is taken.
        """
        if not text:
            return None, "no image is named"
        folder, _, name = text.rpartition("/")
        if name in self._exact.get(folder, ()) and is_image_name(name):  # nearly always, of a million
            return text, ""
        path = text if "\\" not in text or self._is_file(text) else text.replace("\\", "/")
        if posixpath.isabs(path) and os.path.isfile(path):
            return path, ""
        path = posixpath.normpath(path).lstrip("/")  # a path of another machine may end as it does here
        if self._is_file(path):
            return path, ""
        found = self._look_around(path, split)
        if len(found) == 1:
            return found[0], ""
        return None, f"{text} names {len(found)} images: {shown_paths(found)}" if found else f"{text} is not there"

    def _is_file(self, path: str) -> bool:
        folder, name = posixpath.split(path)
        if folder not in self._exact:
            self._exact[folder] = set(_names_in(os.path.join(self.root, folder)))
        is_there = name in self._exact[folder]
        return is_there and (is_image_name(name) or os.path.isfile(os.path.join(self.root, path)))

    def _look_around(self, path: str, split: str | None) -> list[str]:
        folder, name = posixpath.split(path)
        if folder not in self._loose:
            names = [name for name in self._exact[folder] if is_image_name(name)]
            self._loose[folder] = _by_name([join(folder, name) for name in sorted(names)])
        if found := self._loose[folder].get(name.lower()):
            return found
        if self._below is None:
            tree = FolderTree(self.root)
            tree.claim([""])
            images = tree.images_below("")
            self._below = _by_name(images)
            self._folders = {posixpath.basename(of).lower() for of in set(map(posixpath.dirname, images))} - {""}
        found = self._below.get(name.lower(), [])
        shared = [_shared_end(one, path) for one in found]
        # Of an image that is missing, one of the same name in another folder is no substitute.
        if found and not max(shared) and posixpath.basename(folder).lower() in self._folders:
            return []
        closer = [one for one, count in zip(found, shared, strict=True) if count == max(shared)]
        return [one for one in closer if split and split in map(split_of, one.split("/")[:-1])] or closer


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []


def _by_name(paths: list[str]) -> dict[str, list[str]]:
    """Return paths by their names in lower case, with and without suffix."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        name = posixpath.basename(path).lower()
        found[name].append(path)
        found[name.rpartition(".")[0]].append(path)
    return dict(found)


def _shared_end(path: str, other: str) -> int:
    """Return how many folders before the name of an image are the same in two paths, counted from the end."""
    pairs = zip(reversed(path.lower().split("/")[:-1]), reversed(other.lower().split("/")[:-1]), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
