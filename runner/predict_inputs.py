"""Which images are predicted, and what their predictions are called."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".ppm", ".pgm")


@dataclass(frozen=True)
class Input:
    """An image to predict.

    Attributes:
        path: the file.
        name: its path below what all inputs have in common, with forward slashes.
        stem: what its outputs are called, without suffix: the name without its own, or with it where another image of
            the same folder has the same stem.
    """

    path: Path
    name: str
    stem: str


def find_inputs(patterns: Sequence[str], output: Path) -> list[Input]:
    """Return the images of files, folders and patterns, each once.

    Args:
        patterns: a file is taken whatever its suffix; of a folder, all images below it, sorted by path; otherwise a
            pattern with ``*``, ``**``, ``?`` or ``[...]``, its matches sorted likewise. Files that begin with a dot are
            left out of folders.
        output: where predictions go: what lies there is left out of folders and patterns.

    Raises:
        UsageError: a path does not exist, or a folder or a pattern holds no image.
    """
    found: dict[Path, Path] = {}
    bases = []
    for pattern in patterns:
        base, paths = _expand(pattern)
        if not paths:
            raise UsageError(f"--input {pattern} holds no image: none ends in {', '.join(SUFFIXES)}.")
        paths = [path for path in paths if path == Path(pattern) or not _lies_in(path, output)]
        if not paths:
            raise UsageError(f"--output {output} must be another folder than that of the images.")
        bases.append(base)
        for path in paths:
            found.setdefault(Path(os.path.abspath(path)), path)
    root = os.path.commonpath(bases)
    names = {path: Path(os.path.relpath(absolute, root)) for absolute, path in found.items()}
    stems = Counter(name.with_suffix("") for name in names.values())
    return [
        Input(path, name.as_posix(), (name if stems[name.with_suffix("")] > 1 else name.with_suffix("")).as_posix())
        for path, name in names.items()
    ]


def _expand(pattern: str) -> tuple[str, list[Path]]:
    """Return the folder that names are relative to, absolute, and the images."""
    path = Path(pattern)
    if path.is_dir():
        return os.path.abspath(path), sorted(_images_below(path))
    if path.exists():
        return os.path.dirname(os.path.abspath(path)), [path]
    if not glob.has_magic(pattern):
        raise UsageError(f"--input {pattern} does not exist.")
    fixed = path
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    return os.path.abspath(fixed), sorted(match for match in matches if _is_image(match))


def _images_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for name in files if _is_image(path := Path(parent) / name))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
