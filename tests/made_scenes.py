"""Scenes made by hand for tests of rules on masks and boxes: textured images with things in them, and what is true."""

from dataclasses import replace

import numpy as np
from made_probes import healthy, loader, sample


def make_scene(seed, height=96, width=96, things=4, classes=2, contrast=1.5, texture=0.4, least=12):
    """Return an image [3, H, W], a mask [H, W] of classes, boxes [n, 4] in pixels, and their labels from 1.

    Args:
        seed: of all that is drawn.
        height: of the image.
        width: of the image.
        things: at most so many ellipses and rectangles, one on top of the other.
        classes: of the mask, the background among them.
        contrast: of things against the background.
        texture: standard deviation of the noise.
        least: smallest side of a thing.
    """
    random = np.random.default_rng(seed)
    image = random.normal(0, texture, (3, height, width)).astype(np.float32)
    image += np.linspace(0, random.uniform(-1, 1), width, dtype=np.float32)
    mask, boxes, labels = np.zeros((height, width), dtype=np.int64), [], []
    rows, columns = np.mgrid[:height, :width]
    for _ in range(random.integers(1, things + 1) if things else 0):
        tall, wide = (
            random.integers(least, max(least + 1, height // 2)),
            random.integers(least, max(least + 1, width // 2)),
        )
        top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
        inside = (rows >= top) & (rows < top + tall) & (columns >= left) & (columns < left + wide)
        if random.random() < 0.5:
            middle = ((rows - top - tall / 2 + 0.5) / (tall / 2)) ** 2 + (
                (columns - left - wide / 2 + 0.5) / (wide / 2)
            ) ** 2
            inside &= middle <= 1
        label = int(random.integers(1, classes))
        colour = contrast * np.array([1.0, np.cos(label), np.sin(label)], dtype=np.float32)
        image[:, inside] = colour[:, None] + random.normal(0, texture, (3, inside.sum()))
        mask[inside] = label
        boxes.append([left, top, left + wide, top + tall])
        labels.append(label)
    return image, mask, np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64)


def mask_sample(index, image, mask, **options):
    """Return what was observed of an image with a mask."""
    values, counts = np.unique(mask, return_counts=True)
    options = {"mask_values": tuple(values.tolist()), "mask_shares": tuple((counts / mask.size).tolist()), **options}
    image = np.ascontiguousarray(image)
    return replace(sample(index, image), image=image, mask=mask, **options)


def box_sample(index, image, boxes, labels, **options):
    """Return what was observed of an image with boxes."""
    image = np.ascontiguousarray(image)
    return replace(sample(index, image), image=image, boxes=boxes, box_labels=labels, **options)


def mask_loader(key, count=40, first=0, change=None, **scene):
    """Return a loader of scenes with masks; ``change(image, mask, index)`` may return others."""
    made = [make_scene(first + index, **scene)[:2] for index in range(count)]
    made = [change(*one, index) if change else one for index, one in enumerate(made)]
    return loader(key, [mask_sample(index, *one) for index, one in enumerate(made)])


def box_loader(key, count=40, first=0, change=None, **scene):
    """Return a loader of scenes with boxes; ``change(image, boxes, labels, index)`` may return others."""
    scene = {"classes": 4, **scene}
    made = [
        (image, boxes, labels) for image, _, boxes, labels in (make_scene(first + it, **scene) for it in range(count))
    ]
    made = [change(*one, index) if change else one for index, one in enumerate(made)]
    return loader(key, [box_sample(index, *one) for index, one in enumerate(made)])


def with_masks(train=None, valid=None, counts=(40, 24), settings=None, **scene):
    """Return a probe of scenes with masks, changed in one of the loaders or in both."""
    loaders = {
        "train": mask_loader("train", counts[0], 0, train, **scene),
        "valid": mask_loader("valid", counts[1], 5000, valid, **scene),
    }
    return healthy(loaders=loaders, **({"settings": settings} if settings else {}))


def with_boxes(train=None, valid=None, counts=(40, 24), settings=None, **scene):
    """Return a probe of scenes with boxes, changed in one of the loaders or in both."""
    loaders = {
        "train": box_loader("train", counts[0], 0, train, **scene),
        "valid": box_loader("valid", counts[1], 5000, valid, **scene),
    }
    return healthy(loaders=loaders, **({"settings": settings} if settings else {}))
