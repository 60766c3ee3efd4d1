"""Faults of boxes."""

import numpy as np

from .. import bases
from ..case import fault


def _change(case, change, *, valid=True):
    case.train = [{**item, "bboxes": change(item["bboxes"].copy())} for item in case.train]
    if valid:
        case.valid = [{**item, "bboxes": change(item["bboxes"].copy())} for item in case.valid]


@fault(
    "boxes are corner and size in place of two corners",
    4,
    bases.detection,
    "box",
    "format|width|xywh|size|corner",
    quick=True,
)
def _(case):
    _change(case, lambda boxes: np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1))


@fault(
    "boxes are middle and size in place of two corners",
    4,
    bases.detection,
    "box",
    "format|width|cxcywh|size|corner|middle|centre|center",
)
def _(case):
    _change(case, lambda boxes: np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1))


@fault(
    "boxes are given from 0 to 1", 4, bases.detection, "box", "0 to 1|normalized|fraction|shares|relative", quick=True
)
def _(case):
    _change(case, lambda boxes: boxes / 32)


@fault(
    "x and y of boxes are exchanged in training",
    4,
    bases.detection,
    "box",
    "x and y|exchanged|transposed",
    "train",
    quick=True,
)
def _(case):
    _change(case, lambda boxes: boxes[:, [1, 0, 3, 2]], valid=False)


@fault("boxes are those of larger images", 4, bases.detection, "box", "outside|beyond|out of", quick=True)
def _(case):
    _change(case, lambda boxes: boxes * 2)


@fault("many boxes have no size", 4, bases.detection, "box", "zero|no size|size 0|empty|no area|width|height")
def _(case):
    def flat(boxes):
        boxes[:1, 2] = boxes[:1, 0]
        return boxes

    _change(case, flat)


@fault(
    "labels of boxes begin at 0, which is the background", 4, bases.detection, "label", "0", "background", quick=True
)
def _(case):
    case.train = [{**item, "labels": item["labels"] - 1} for item in case.train]
    case.valid = [{**item, "labels": item["labels"] - 1} for item in case.valid]


@fault(
    "most images of training have lost their boxes",
    4,
    bases.detection,
    "train",
    "no box|without box|boxes",
    "of 96|of the|images|%",
)
def _(case):
    def emptied(index, item):
        return item if index % 5 == 0 else {**item, "bboxes": item["bboxes"][:0], "labels": item["labels"][:0]}

    case.train = [emptied(index, item) for index, item in enumerate(case.train)]


@fault("images are mirrored and their boxes are not", 4, bases.detection, "train", "box", "flip|mirror|follow")
def _(case):
    case.augment = [lambda item: {**item, "image": item["image"][:, ::-1]}]


@fault("boxes belong to other images", 4, bases.detection, "train", "box", "other|another|follow|match")
def _(case):
    parts = [{key: item[key] for key in ("bboxes", "labels")} for item in case.train]
    case.train = [{**item, **parts[index - 5]} for index, item in enumerate(case.train)]


@fault("one box of each image is left", 4, bases.detection, "train", "box", "few|one|fewer|per image|valid")
def _(case):
    case.train = [{**item, "bboxes": item["bboxes"][:1], "labels": item["labels"][:1]} for item in case.train]
