"""Find which mask belongs to which image, by folders and by names."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..folder_tree import FolderTree, join, split_of
from . import cityscapes

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "inputs", "input", "rgb", "leftimg8bit",
)  # fmt: skip
MASK_FOLDERS = (
    "masks", "mask", "segmentationclass", "segmentation", "segmentations", "labels", "label", "annotations",
    "annotation", "annots", "annot", "gt", "ground_truth", "groundtruth", "ground-truth", "targets", "target", "gtfine",
    "gtcoarse",
)  # fmt: skip

_OF_MASK = re.compile(
    r"[_\-. ](masks?|labels?|gt|seg|segmentation|ground_?truth|annot(?:ation)?|target|l|p|"
    r"(?:gt(?:fine|coarse)_)?label(?:train)?ids)$|^(?:masks?|labels?|gt|seg)[_\-. ]",
    re.I,
)
_OF_IMAGE = re.compile(r"[_\-. ](image|img|sat|photo|rgb|leftimg8bit)$|^(?:image|img|photo)[_\-. ]", re.I)
_BESIDE = re.compile(r"[_\- ]?(masks?|labels?|gt|annot(?:ation)?s?|segmentations?)", re.I)  # train, trainannot


@dataclass(frozen=True)
class MaskPart:
    """A folder of images and the folder of their masks, which may be the same one; None where there is none."""

    images: str
    masks: str | None
    split: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask, relative to the root."""

    image: str
    mask: str
    split: str | None


def find_parts(tree: FolderTree, folder: str = "", split: str | None = None) -> list[MaskPart]:
    """Return the folders of images and masks below a folder; none where there are none."""
    names = {name.lower(): name for name in tree.folders(folder)}
    of_images = [join(folder, names[name]) for name in IMAGE_FOLDERS if name in names]
    of_masks = [join(folder, names[name]) for name in MASK_FOLDERS if name in names]
    images = next((one for one in of_images if tree.has_images(one)), None)
    masks = next((one for one in of_masks if tree.has_images(one)), None)
    if masks and not images and tree.images(folder):
        images = folder
    if images is not None and masks:
        return _by_split(tree, images, masks, split) or [MaskPart(images, masks, split)]
    parts = [part for name in tree.folders(folder) for part in _of_split(tree, folder, name)]
    if not parts and _holds_both(tree, folder):
        parts = [MaskPart(folder, folder, split)]
    if not parts and len(names) == 1 and not tree.images(folder):  # an archive's own folder
        parts = find_parts(tree, join(folder, tree.folders(folder)[0]), split)
    return parts


def _by_split(tree: FolderTree, images: str, masks: str, split: str | None) -> list[MaskPart]:
    """Return images/train with masks/train, and so on."""
    of_masks = {split_of(name): join(masks, name) for name in tree.folders(masks) if split_of(name)}
    of_images = {split_of(name): join(images, name) for name in tree.folders(images) if split_of(name)}
    if split is not None or "train" not in of_images or "train" not in of_masks or tree.images(images):
        return []
    return [MaskPart(folder, of_masks.get(part), part) for part, folder in of_images.items()]


def _of_split(tree: FolderTree, folder: str, name: str) -> list[MaskPart]:
    """Return what is in train/, or in train/ and train_masks/, or in train_images/ and train_masks/."""
    path, words = join(folder, name), re.split(r"[_\- ]", name, maxsplit=1)
    split = split_of(name) or (split_of(words[0]) if words[1:] and words[1].lower() in IMAGE_FOLDERS else None)
    if split is None:
        return []
    if split_of(name) and (inner := find_parts(tree, path, split)):
        return inner
    stem = name if split_of(name) else words[0]
    for other in tree.folders(folder):
        rest = other[len(stem) :]
        if other != name and other.startswith(stem) and _BESIDE.fullmatch(rest):
            return [MaskPart(path, join(folder, other), split)]
    return [MaskPart(path, None, split)] if tree.has_images(path) and split_of(name) and split != "train" else []


def _holds_both(tree: FolderTree, folder: str) -> bool:
    names = tree.images(folder)
    stems = {_image_key(os.path.splitext(name)[0]) for name in names}
    masks = [name for name in names if _OF_MASK.search(os.path.splitext(name)[0])]
    return any(_mask_key(os.path.splitext(name)[0]) in stems for name in masks)


def mask_stems(tree: FolderTree, part: MaskPart) -> Iterator[str]:
    """Yield the names, without suffix, of all files of a part that may be masks."""
    folders = [] if part.masks is None else [part.masks]
    for folder in folders:
        yield from (os.path.splitext(name)[0] for name in tree.images(folder))
        inner = (join(folder, name) for name in tree.folders(folder))
        folders += [one for one in inner if not os.path.islink(join(tree.root, one))]


def pair_up(tree: FolderTree, part: MaskPart, problems: list[str], kind: str | None = None) -> list[Pair]:
    """Return the pairs of a part, by the path below the folder without suffix, and else without words such as _mask.

    Args:
        tree: with the files.
        part: of it.
        problems: gets a line for each file that has no counterpart.
        kind: of Cityscapes' masks, to which the others show the same; None: there are no several.
    """
    if part.masks is None:
        count = len(tree.images_below(part.images)) if tree.claim([part.images]) else 0
        problems.append(f"{part.images}: {count:,} images without a folder of masks; left out")
        return []
    folders = tree.claim(dict.fromkeys([part.images, part.masks]))
    found = {folder: tree.images_below(folder) for folder in folders}
    images, masks = found.get(part.images, []), found.get(part.masks, [])
    if part.images == part.masks:
        masks = [path for path in images if _OF_MASK.search(_stem(path, ""))]
        images = [path for path in images if path not in set(masks)]
    elif not part.images or part.masks.startswith(f"{part.images}/"):
        images = [path for path in images if not path.startswith(f"{part.masks}/")]
    if kind is not None:
        masks = [path for path in masks if cityscapes.is_of_kind(_stem(path, ""), kind)]
    lines: list[str] = []
    by_key = _unique(images, part.images, lines)
    of_image = _match(masks, part.masks, by_key, lines)
    if not of_image and _differ(images) and _differ(masks):  # annotations/trimaps/1.png is the mask of images/1.jpg
        lines.clear()
        by_key = _unique(images, None, lines)
        of_image = _match(masks, None, by_key, lines)
    problems += lines
    problems += [
        f"{image}: no mask in {part.masks or 'the folder'}; left out" for image in images
        if image not in of_image and image in by_key.values()
    ]  # fmt: skip
    return [Pair(image, of_image[image], part.split) for image in images if image in of_image]


def _differ(paths: Sequence[str]) -> bool:
    """Whether the names of files are unique without their folders."""
    return len({_stem(path, None) for path in paths}) == len(paths)


def _match(masks: Sequence[str], folder: str | None, by_key: dict[str, str], problems: list[str]) -> dict[str, str]:
    """Return the mask of each image."""
    of_image: dict[str, str] = {}
    for mask in masks:
        stem = _stem(mask, folder)
        image = by_key.get(stem) or by_key.get(_mask_key(stem))
        if image is None:
            problems.append(f"{mask}: a mask without an image; left out")
        elif image in of_image:
            problems.append(f"{mask}: {image} has the mask {of_image[image]} already; left out")
        else:
            of_image[image] = mask
    return of_image


def _unique(images: Sequence[str], folder: str | None, problems: list[str]) -> dict[str, str]:
    """Return images by their stems, and by those without words such as _image."""
    by_key: dict[str, str] = {}
    problems += [
        f"{image}: {other} has the same name; left out"
        for image in images
        if (other := by_key.setdefault(_stem(image, folder), image)) != image
    ]
    for stem, image in list(by_key.items()):
        by_key.setdefault(_image_key(stem), image)
    return by_key


def _stem(path: str, folder: str | None) -> str:
    """Return a path below a folder without suffix; the name alone where the folder is None."""
    below = os.path.basename(path) if folder is None else path.removeprefix(f"{folder}/") if folder else path
    return os.path.splitext(below)[0]


def _mask_key(stem: str) -> str:
    head, name = os.path.split(stem)
    return join(head, _OF_MASK.sub("", name, count=1))


def _image_key(stem: str) -> str:
    head, name = os.path.split(stem)
    return join(head, _OF_IMAGE.sub("", name, count=1))
