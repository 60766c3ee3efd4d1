"""Faults of labels against their images. Digits are told apart by their pixels."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from .. import bases
from ..case import Case, accuracy, fault
from ..nets import Cnn


@cache
def _digits():
    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8).repeat(2, 1).repeat(2, 2)[..., None]
    return [
        {"image": image, "target": int(target), "sample_id": f"digit-{index}"}
        for index, (image, target) in enumerate(zip(images, data.target, strict=True))
    ]


def digits():
    """Return a training on real digits, 400 for training and 120 for validation."""
    items = _digits()
    # Every seventh is held out, as the first ones are by other writers than the last ones.
    train = [dict(item) for index, item in enumerate(items[:560]) if index % 7 < 5]
    valid = [dict(item) for index, item in enumerate(items[:560]) if index % 7 == 5]
    return Case(train, valid, lambda: Cnn(10, channels=1), prepare=[_grey], callbacks=accuracy(10))


def _grey(item):
    image = (item["image"].astype(np.float32) / 255 - 0.3) / 0.37
    return {**item, "image": torch.from_numpy(image).permute(2, 0, 1)}


def _relabel(items, change):
    for index, item in enumerate(items):
        item["target"] = int(change(index, item["target"]))


@fault(
    "labels of training have nothing to do with the images",
    3,
    digits,
    "train",
    "label|class",
    "nothing|unrelated|no relation|chance|shuffl",
    quick=True,
)
def _(case):
    drawn = np.random.default_rng(0).permutation([item["target"] for item in case.train])
    _relabel(case.train, lambda index, _: drawn[index])


@fault(
    "labels of validation have nothing to do with the images",
    3,
    digits,
    "valid",
    "label|class",
    "nothing|unrelated|no relation|chance|shuffl",
)
def _(case):
    drawn = np.random.default_rng(0).permutation([item["target"] for item in case.valid])
    _relabel(case.valid, lambda index, _: drawn[index])


@fault("two classes are exchanged in validation", 3, digits, "valid", "exchanged|swapped", "3", "7", quick=True)
def _(case):
    _relabel(case.valid, lambda _, target: {3: 7, 7: 3}.get(target, target))


@fault(
    "labels of validation are shifted by one", 3, digits, "valid", "shifted|by one|+1|plus 1|one class|next", quick=True
)
def _(case):
    _relabel(case.valid, lambda _, target: (target + 1) % 10)


@fault("labels of validation are counted backwards", 3, digits, "valid", "label|class", "train")
def _(case):
    _relabel(case.valid, lambda _, target: 9 - target)


@fault(
    "a third of the labels of training is wrong",
    3,
    digits,
    "train",
    "label",
    "%|percent|of the|noise|wrong",
    quick=True,
)
def _(case):
    chance = np.random.default_rng(0)
    _relabel(case.train, lambda _, target: chance.integers(10) if chance.uniform() < 0.35 else target)


@fault("half of one class is labelled as another", 3, digits, "train", "4", "9", "label|class")
def _(case):
    _relabel(case.train, lambda index, target: 9 if target == 4 and index % 2 else target)


@fault(
    "each image has the label of the one before it",
    3,
    digits,
    "train",
    "previous|before|next|neighbour|one off|shifted|moved",
    quick=True,
)
def _(case):
    targets = [item["target"] for item in case.train]
    _relabel(case.train, lambda index, _: targets[index - 1])


@fault(
    "the collate function sorts images and not labels",
    3,
    digits,
    "train",
    "batch",
    "label|target",
    "order|moved|mix|another|wrong",
)
def _(case):
    def by_brightness(items):
        batch = torch.utils.data.default_collate(items)
        order = batch["image"].mean((1, 2, 3)).argsort()
        return {**batch, "image": batch["image"][order]}

    case.collate = by_brightness


@fault(
    "labels of textures have nothing to do with the images",
    3,
    bases.cnn,
    "train",
    "label|class",
    "nothing|unrelated|no relation|chance|shuffl|learn",
)
def _(case):
    drawn = np.random.default_rng(0).permutation([item["target"] for item in case.train])
    case.train = [{**item, "target": int(target)} for item, target in zip(case.train, drawn, strict=True)]
