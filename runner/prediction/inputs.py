"""Find the images to predict, and name their predictions."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from assay.callbacks.errors import UsageError
from assay.callbacks.support.printable import printable

from ..data.files.images import SUFFIXES

_HIDDEN, _LINK, _FOLDER, _SPECIAL, _NO_SUFFIX = (
    "hidden",
    "links to folders",
    "folders",
    "special files",
    "without suffix",
)


@dataclass(frozen=True)
class Input:
    """An image to predict.

    Attributes:
        path: the file.
        name: its path below the common folder of all inputs, with forward slashes.
        stem: the name of its outputs, without suffix: ``name`` without its own suffix, or with it where another image
            of the same folder has the same stem.
    """

    path: Path
    name: str
    stem: str


@dataclass
class LeftOut:
    """What folders and patterns hold beside images.

    Attributes:
        kinds: the number of files by suffix, or by another reason.
        errors: folders that cannot be read, each with the reason.
        output: a folder whose content is not counted.
    """

    output: Path
    kinds: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return a line that lists what was left out; "" where nothing was."""
        if not self.kinds:
            return ""
        kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in self.kinds.most_common())
        return f"left out of --input, not images: {kinds}"

    def fail(self, error: OSError) -> None:
        """Record a folder that cannot be read."""
        self.errors.append(f"folder {os.fspath(error.filename)!r} cannot be read: {error.strerror or error}")


def find_inputs(patterns: Sequence[str], output: Path, left_out: LeftOut | None = None) -> list[Input]:
    """Return the images of files, folders and patterns, each once.

    Args:
        patterns: a file is taken whatever its suffix; of a folder, all images below it, sorted by path; otherwise a
            pattern with ``*``, ``**``, ``?`` or ``[...]``, its matches sorted by path too. In folders, files that begin
            with a dot are left out, and links to folders are not followed.
        output: the folder of predictions; its content is left out of folders and patterns.
        left_out: records what else is left out.

    Raises:
        UsageError: a path does not exist, or a folder or a pattern holds no image.
    """
    left_out = left_out or LeftOut(output)
    found: dict[Path, Path] = {}
    bases = []
    for pattern in patterns:
        base, paths = _expand_pattern(pattern, left_out)
        if not paths:
            raise UsageError(_no_image_message(pattern, left_out))
        paths = [path for path in paths if path == Path(pattern) or not _lies_in(path, output)]
        if not paths:
            raise UsageError(f"--output {output} must be another folder than that of the images.")
        bases.append(base)
        for path in paths:  # by absolute path, as patterns may overlap
            found.setdefault(Path(os.path.abspath(path)), path)
    # Names begin at the common folder, so that images of several folders with one name stay apart.
    root = os.path.commonpath(bases)
    names = {path: Path(os.path.relpath(absolute, root)) for absolute, path in found.items()}
    stems = _unique_stems(list(names.values()))
    return [Input(path, name.as_posix(), stem) for (path, name), stem in zip(names.items(), stems, strict=True)]


def _no_image_message(pattern: str, left_out: LeftOut) -> str:
    if left_out.errors:
        return f"--input {printable(pattern)} holds no image: {left_out.errors[0]}."
    return f"--input {printable(pattern)} holds no image: none ends in {', '.join(SUFFIXES)}."


def _unique_stems(names: Sequence[Path]) -> list[str]:
    """Return the stems of outputs: names without their suffix, or with it where two outputs would collide."""
    # A longer name may collide anew, also with the folder of another output: repeat until nothing changes.
    before: list[str] = []
    stems = [name.with_suffix("").as_posix() for name in names]
    while stems != before:
        before, clashes = stems, _find_clashes(stems)
        stems = [name.as_posix() if stem in clashes else stem for stem, name in zip(stems, names, strict=True)]
    return stems


def _find_clashes(stems: Sequence[str]) -> set[str]:
    folders = {parent.as_posix() for stem in stems for parent in Path(stem).parents}
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    return twice | {stem for stem in stems if any(stem + suffix in folders for suffix in _OUTPUTS)}


_OUTPUTS = (".png", ".tif", ".jpg")  # of masks, and of pictures with boxes


def _expand_pattern(pattern: str, left_out: LeftOut) -> tuple[str, list[Path]]:
    """Return the absolute folder that names are relative to, and the images."""
    path = Path(pattern)
    if path.is_dir():
        return os.path.abspath(path), sorted(_images_below(path, left_out))
    if path.exists():  # before the pattern: the name of a file may hold brackets
        return os.path.dirname(os.path.abspath(path)), [path]
    if not glob.has_magic(pattern):
        raise UsageError(f"--input {printable(pattern)} does not exist.")
    # Names are relative to the part of a pattern without wildcards.
    fixed = path
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    if "**" in pattern:  # it matches every folder on the way, which nobody means
        matches = [match for match in matches if not match.is_dir()]
    return os.path.abspath(fixed), sorted(match for match in matches if _is_image(match, left_out))


def _images_below(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=left_out.fail):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        hidden = [name for name in folders if name.startswith(".")]
        for kind, names in ((_LINK, links), (_HIDDEN, hidden)):
            left_out.kinds.update([kind] * len(names))
        folders[:] = [name for name in folders if name not in hidden]  # os.walk descends into what is left
        yield from (path for name in files if _is_image(path := Path(parent) / name, left_out))


def _is_image(path: Path, left_out: LeftOut) -> bool:
    """Whether a file is to be read as an image."""
    # A broken link is: reading it fails, and the user learns of it.
    kind = ""
    if path.name.startswith("."):
        kind = _HIDDEN
    elif path.is_dir():
        kind = _FOLDER
    elif path.suffix.lower() not in SUFFIXES:
        kind = path.suffix.lower() or _NO_SUFFIX
    elif not path.is_file() and path.exists():
        kind = _SPECIAL
    if kind and not _lies_in(path, left_out.output):
        left_out.kinds[kind] += 1
    return not kind


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))
