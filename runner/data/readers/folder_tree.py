"""What is below a folder: images and folders by name, without hidden ones, each folder read once."""

import os
from collections import defaultdict
from collections.abc import Iterable

from ..files.images import SUFFIXES

SPLIT_FOLDERS = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Names of folders, files and parts, in lower case, that stand for a part of a split."""

_IMAGE_SUFFIXES = frozenset(suffix.removeprefix(".") for suffix in SUFFIXES)
# What systems and archives leave behind, and what comes with a data set.
_NO_DATA = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})
_OF_A_DATA_SET = frozenset({
    "txt", "md", "rst", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "html", "pdf", "py", "ipynb", "cache",
    "zip", "gz", "tar",
})  # fmt: skip
_SHOWN = 3  # names in a line about several


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of an image, in upper or lower case."""
    before, dot, suffix = name.rpartition(".")
    return bool(before and dot) and suffix.lower() in _IMAGE_SUFFIXES


def split_of(name: object) -> str | None:
    """Return the part of a split, "train", "valid" or "test", that a name stands for; None for any other name."""
    return SPLIT_FOLDERS.get(str(name).strip().lower())


class FolderTree:
    """The images and folders below a folder; links are followed, and no folder is gone through twice.

    Paths are texts relative to the root, with slashes; "" is the root itself.

    Args:
        root: the folder.
    """

    def __init__(self, root: str | os.PathLike[str]):
        self.root = os.fspath(root)
        self._problems: list[str] = []
        self._listed: dict[str, tuple[list[str], list[str]]] = {}
        self._taken: dict[tuple[int, int], str] = {}
        self._no_images: defaultdict[str, list[str]] = defaultdict(list)

    @property
    def problems(self) -> list[str]:
        """What could not be read, one line each."""
        others = [
            f"{suffix or 'a file without a suffix'}: no suffix of an image; left out {shown_paths(paths)}"
            for suffix, paths in sorted(self._no_images.items())
        ]
        return [*self._problems, *others]

    def images(self, folder: str) -> list[str]:
        """Return the names of the images in a folder, sorted."""
        return self._list(folder)[0]

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        return self._list(folder)[1]

    def claim(self, folders: Iterable[str]) -> list[str]:
        """Take folders before all others, and return those that are not the same as another one of them."""
        # A real folder goes before a link to it.
        ordered = sorted(folders, key=lambda folder: os.path.islink(join(self.root, folder)))
        kept = {folder for folder in ordered if self._take(folder)}
        return [folder for folder in folders if folder in kept]

    def images_below(self, folder: str) -> list[str]:
        """Return the paths of all images in a folder that was claimed, and in those below it."""
        images, folders = self._list(folder)
        found = [join(folder, name) for name in images]
        del self._listed[folder]  # a million names are not kept twice
        for name in folders:
            inner = join(folder, name)
            if self._take(inner):
                found += self.images_below(inner)
        return found

    def has_images(self, folder: str) -> bool:
        """Whether there is an image in a folder or in one below it; links are not followed."""
        images, folders = self._list(folder)
        inner = [join(folder, name) for name in folders]
        return bool(images) or any(self.has_images(of) for of in inner if not os.path.islink(join(self.root, of)))

    def _take(self, folder: str) -> bool:
        status = os.stat(join(self.root, folder))
        owner = self._taken.setdefault((status.st_dev, status.st_ino), folder)
        if owner != folder:
            self._problems.append(f"{folder}: the same folder as {owner or 'the whole data set'}; taken once")
        return owner == folder

    def _list(self, folder: str) -> tuple[list[str], list[str]]:
        if folder not in self._listed:
            images: list[str] = []
            folders: list[str] = []
            try:
                with os.scandir(join(self.root, folder) or ".") as entries:
                    for entry in entries:
                        self._sort_in(entry, folder, images, folders)
            except OSError as error:
                self._problems.append(f"{folder or self.root}: cannot be read: {error.strerror}")
            self._listed[folder] = sorted(images), sorted(folders)
        return self._listed[folder]

    def _sort_in(self, entry: "os.DirEntry[str]", folder: str, images: list[str], folders: list[str]) -> None:
        name = entry.name
        if name.startswith(".") or name in _NO_DATA:
            return
        if _is_folder(entry):
            folders.append(name)
        elif not is_image_name(name):
            suffix = os.path.splitext(name)[1]
            if suffix.lower().removeprefix(".") not in _OF_A_DATA_SET and (suffix or folder):
                self._no_images[suffix].append(join(folder, name))
        elif entry.is_symlink() and not os.path.exists(entry.path):
            self._problems.append(f"{join(folder, name)}: a link to what is not there")
        else:
            images.append(name)


def join(folder: str, name: str) -> str:
    """Return the path of a name in a folder; of "" the name alone."""
    return f"{folder}/{name}" if folder and name else folder or name


def shown_paths(paths: list[str]) -> str:
    """Return the first of some paths, and how many more there are."""
    more = f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
