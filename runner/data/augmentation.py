"""Transforms of images, masks and boxes: to one size, at four levels of chance, and to tensors."""

from collections.abc import Sequence
from typing import Any

import albumentations as A
import cv2

from assay.callbacks.errors import unknown_name

LEVELS = ("none", "light", "medium", "hard")
RESIZES = ("letterbox", "stretch", "crop")
SYMMETRIES = ("none", "horizontal", "square")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
IGNORED = 255
"""In a mask: a pixel outside of the image, which does not count."""

_GREY = 128
_OUTSIDE: dict[str, Any] = {"border_mode": cv2.BORDER_CONSTANT, "fill": _GREY, "fill_mask": IGNORED}
_MIN_VISIBILITY = 0.3  # share of a box that must be left for it to stay


def make_transform(
    level: str = "none",
    image_size: int | tuple[int, int] | None = None,
    *,
    resize: str = "letterbox",
    symmetry: str = "horizontal",
    mean: float | Sequence[float] = MEAN,
    std: float | Sequence[float] = STD,
    boxes: bool | Sequence[str] = False,
    masks: bool = False,
) -> A.Compose:
    """Return the transform of images [H, W, 3], uint8, to tensors [3, h, w]; of their masks and boxes too.

    Each level does what those before it do, and more:

    ========== ==========================================================================================
    level      what happens
    ========== ==========================================================================================
    ``none``   nothing
    ``light``  flips by ``symmetry``; unless that is ``square``, shifts by 5%, turns by 10 degrees, and
               scales from 0.9 to 1.1
    ``medium`` shifts by 6%, scales from 0.8 to 1.25 and turns by 20 degrees, by 45 if ``symmetry`` is
               ``square``; changes of colour
    ``hard``   also bends, blur, noise, compression and holes
    ========== ==========================================================================================

    Args:
        level: one of ``LEVELS``.
        image_size: side, or height and width, in pixels, to which images are brought first; None: they keep their size.
        resize: how they are: ``letterbox`` keeps the ratio of the sides and adds grey borders, ``stretch`` changes the
            ratio, ``crop`` keeps it and cuts off what stands out: equally on both sides at level ``none``, else at a
            place drawn by chance.
        symmetry: what an image may be turned to and stay one of its kind: ``horizontal`` mirrors left and right,
            ``square`` turns by quarters and mirrors, as for a view from above; ``none`` is for text.
        mean: of the normalization ``(x - mean) / std`` of images from 0 to 1, one number or one per channel.
        std: of that normalization.
        boxes: whether there are ``bboxes`` (left, top, right, bottom in pixels) with ``labels``, or the names of what
            there is for each box, if it is more than ``labels``. Those of which less than 30% is left are dropped.
            Images are then neither turned by degrees nor bent: boxes would no longer fit tightly.
        masks: whether there is a ``mask``, [H, W], which must have the size of its image; its pixels outside of the
            image become ``IGNORED``.

    Raises:
        UsageError: a name is unknown.
    """
    for kind, name, known in (
        ("level", level, LEVELS),
        ("resize", resize, RESIZES),
        ("symmetry", symmetry, SYMMETRIES),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    steps = [] if image_size is None else _bring_to_size(image_size, resize, is_random=level != "none")
    steps += _augment(LEVELS.index(level), symmetry, turns=not boxes)
    fields = ["labels"] if isinstance(boxes, bool) else [*boxes]
    least = float(level != "none")  # pixels; in validation every box of the file counts, however small it becomes
    of_least = {"min_visibility": _MIN_VISIBILITY, "min_width": least, "min_height": least}
    kept = A.BboxParams("pascal_voc", label_fields=fields, **of_least)
    return A.Compose(
        [*steps, A.Normalize(mean, std), A.ToTensorV2()], bbox_params=kept if boxes else None, is_check_shapes=masks
    )


def _bring_to_size(size: int | tuple[int, int], resize: str, *, is_random: bool) -> list[Any]:
    height, width = (size, size) if isinstance(size, int) else size
    by: dict[str, Any] = {"interpolation": cv2.INTER_LINEAR, "area_for_downscale": "image"}
    if resize == "stretch":
        return [A.Resize(height, width, **by)]
    if resize == "crop":
        crop = A.RandomCrop if is_random else A.CenterCrop
        return [A.SmallestMaxSize(max_size_hw=(height, width), **by), crop(height, width)]
    return [A.LongestMaxSize(max_size_hw=(height, width), **by), A.PadIfNeeded(height, width, **_OUTSIDE)]


def _augment(strength: int, symmetry: str, *, turns: bool) -> list[Any]:
    """Return what is drawn by chance, from nothing (0) to everything (3); ``turns``: also turns and bends."""
    steps: list[Any] = []
    if strength >= 1:
        flips = {"none": [], "horizontal": [A.HorizontalFlip()], "square": [A.SquareSymmetry(p=1.0)]}
        steps += flips[symmetry]
    if strength == 1 and symmetry != "square":
        steps += [_move(scale=(0.9, 1.1), degrees=10 * turns, shift=0.05)]
    if strength >= 2:
        degrees = 45 if symmetry == "square" else 20
        steps += [_move(scale=(0.8, 1.25), degrees=degrees * turns, shift=0.06)]
        steps += [A.RandomBrightnessContrast(p=0.5), A.HueSaturationValue(p=0.3)]
    if strength >= 3:
        steps += [A.GridDistortion(distort_limit=0.2, p=0.2, **_OUTSIDE)] if turns else []
        steps += _disturb()
    return steps


def _move(scale: tuple[float, float], degrees: float, shift: float) -> A.Affine:
    turn, move = (-degrees, degrees), (-shift, shift)
    return A.Affine(scale=scale, rotate=turn, translate_percent=move, p=0.5, **_OUTSIDE)


def _disturb() -> list[Any]:
    return [
        A.OneOf([A.GaussianBlur(), A.MotionBlur(blur_limit=5), A.GaussNoise(), A.ImageCompression()], p=0.4),
        A.RandomGamma(p=0.3),
        A.CoarseDropout(num_holes_range=(1, 4), fill=_GREY, p=0.3),
    ]
