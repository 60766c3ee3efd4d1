"""Masks as Cityscapes names and numbers them: several files per image, of which one kind holds class numbers."""

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from .mask_classes import IGNORED, MaskClasses

_ENDING = re.compile(r"_gt(?:fine|coarse)_(label(?:train)?ids|color|instance(?:train)?ids)$", re.I)
_TRAIN_IDS = "labelTrainIds"
_NUMBERS = (_TRAIN_IDS, "labelIds")  # the first one, where images have both

# Number in labelIds, name and colour; the place is the number in labelTrainIds. All other numbers do not count.
_CLASSES = (
    (7, "road", 0x804080),
    (8, "sidewalk", 0xF423E8),
    (11, "building", 0x464646),
    (12, "wall", 0x66669C),
    (13, "fence", 0xBE9999),
    (17, "pole", 0x999999),
    (19, "traffic light", 0xFAAA1E),
    (20, "traffic sign", 0xDCDC00),
    (21, "vegetation", 0x6B8E23),
    (22, "terrain", 0x98FB98),
    (23, "sky", 0x4682B4),
    (24, "person", 0xDC143C),
    (25, "rider", 0xFF0000),
    (26, "car", 0x00008E),
    (27, "truck", 0x000046),
    (28, "bus", 0x003C64),
    (31, "train", 0x005064),
    (32, "motorcycle", 0x0000E6),
    (33, "bicycle", 0x770B20),
)
_LAST = 33


def numbers_among(stems: Iterable[str]) -> str | None:
    """Return the kind of files that holds class numbers, by the names of masks without suffix; None: not Cityscapes'.

    All images have their masks from one kind: its numbers mean other classes than those of another kind.
    """
    endings = Counter(found[1].lower() for stem in stems if (found := _ENDING.search(stem)))
    counts = {kind: endings[kind.lower()] for kind in _NUMBERS if endings[kind.lower()]}
    return max(counts, key=lambda kind: counts[kind], default=None)


def is_of_kind(stem: str, kind: str) -> bool:
    """Whether a mask is of a kind; one that is named otherwise is of any."""
    found = _ENDING.search(stem)
    return found is None or found[1].lower() == kind.lower()


def classes_of(kind: str) -> MaskClasses:
    """Return the 19 classes by which Cityscapes is scored, with their numbers in a kind of files."""
    places = {number: place for place, (number, _, _) in enumerate(_CLASSES)}
    class_of = {number: places.get(number, IGNORED) for number in range(_LAST + 1)}
    if kind == _TRAIN_IDS:
        class_of = {place: place for place in range(len(_CLASSES))}
    colours = [(code >> 16, code >> 8 & 255, code & 255) for _, _, code in _CLASSES]
    return MaskClasses(
        tuple(name for _, name, _ in _CLASSES),
        {**class_of, IGNORED: IGNORED},
        False,
        np.array(colours, dtype=np.uint8),
        f"{kind} of Cityscapes, other numbers not counted",
    )
