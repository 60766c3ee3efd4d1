"""Faults of data sets in themselves."""

import numpy as np
import torch
from torch.utils.data import Dataset, WeightedRandomSampler

from .. import bases, pictures
from ..case import Pictures, fault


@fault("validation images are among those for training", 1, bases.cnn, "train and valid", "same|share", quick=True)
def _(case):
    case.valid = [{**item, "sample_id": f"v{index}"} for index, item in enumerate(case.train[:60])]


@fault("half of the validation images are among those for training", 1, bases.mlp, "train and valid", "share|same")
def _(case):
    case.valid = [*case.valid[:30], *case.train[5:35]]


@fault("validation images are those for training, encoded anew", 1, bases.plain, "train", "valid", "near|alike|almost")
def _(case):
    chance = np.random.default_rng(3)
    case.valid = [{**item, "image": _encoded_anew(item["image"], chance)} for item in case.train[:60]]


def _encoded_anew(image, chance):
    return np.clip(image.astype(int) + chance.integers(-2, 3, image.shape), 0, 255).astype(np.uint8)


@fault(
    "images stand in the list twice, with different labels",
    1,
    bases.cnn,
    "train",
    "label|class",
    "same image|same pixels|identical",
    quick=True,
)
def _(case):
    again = [
        {**item, "target": (item["target"] + 1 + i % 4) % 6, "sample_id": f"x{i}"}
        for i, item in enumerate(case.train[:50])
    ]
    case.train = [*case.train, *again]


class FirstItem(Pictures):
    """Ignores the index."""

    def __getitem__(self, index):
        return super().__getitem__(0)


@fault("an item is returned for every index", 1, bases.cnn, "train", "every|all|whatever", "same|one", quick=True)
def _(case):
    case.dataset = FirstItem


@fault("an item is returned for every index in validation", 1, bases.mlp, "valid", "every|all|whatever", "same|one")
def _(case):
    case.valid_dataset = FirstItem


@fault(
    "ids stand for several images",
    1,
    bases.cnn,
    "train",
    "id",
    "twice|several|repeat|more than once|different images|unique",
)
def _(case):
    case.train = [{**item, "sample_id": f"{index % 60:04d}"} for index, item in enumerate(case.train)]


@fault("a third of the images is black", 1, bases.cnn, "train", "black|constant|one colour|blank", quick=True)
def _(case):
    case.train = [{**item, "image": item["image"] * (index % 3 > 0)} for index, item in enumerate(case.train)]


@fault("validation images are one grey", 1, bases.mlp, "valid", "constant|one colour|blank|grey|one value")
def _(case):
    case.valid = [{**item, "image": np.full_like(item["image"], 128)} for item in case.valid]


@fault("the lower half of many images is missing", 1, bases.cnn, "train", "half|cut|broken|lower|bottom|rows")
def _(case):
    def cut(item, index):
        image = item["image"].copy()
        if index % 4 == 0:
            image[10:] = 128
        return {**item, "image": image}

    case.train = [cut(item, index) for index, item in enumerate(case.train)]


@fault("some images hold NaN", 1, bases.cnn, "train", "nan|finite")
def _(case):
    def root(item):
        # A root of what may be negative.
        return {**item, "image": torch.sqrt(item["image"] + 1.6)}

    case.prepare = [*case.prepare, root]


@fault("labels are sorted and the loader does not shuffle", 1, bases.cnn, "train", "order|sorted|shuffle", quick=True)
def _(case):
    case.train = sorted(case.train, key=lambda item: item["target"])
    case.loader_options = {"shuffle": False}


@fault(
    "training lacks a class that validation has",
    1,
    bases.cnn,
    "train",
    "class 5|5 ",
    "missing|no sample|lacks|none|never",
    quick=True,
)
def _(case):
    case.train = [item for item in case.train if item["target"] != 5]


@fault("training and validation are split by class", 1, bases.plain, "classes 0 to", "in common|apart|never taught")
def _(case):
    together = [*case.train, *case.valid]
    middle = (max(item["target"] for item in together) + 1) // 2
    case.train = [item for item in together if item["target"] < middle]
    case.valid = [item for item in together if item["target"] >= middle]


@fault("validation lacks two classes", 1, bases.vit, "valid", "missing|no sample|lacks|none|never|without")
def _(case):
    case.valid = [item for item in case.valid if item["target"] not in (1, 4)]


@fault("a class is never seen at all", 1, bases.plain, "class 3|3 ", "never|no sample|missing|neither|none")
def _(case):
    case.train = [item for item in case.train if item["target"] != 3]
    case.valid = [item for item in case.valid if item["target"] != 3]


@fault(
    "a class is 40 times rarer than the others",
    1,
    bases.cnn,
    "train",
    "class 2|2 ",
    "rare|times|few|one in",
    quick=True,
)
def _(case):
    rare = [item for item in case.train if item["target"] == 2][:1]
    case.train = [item for item in pictures.classes(500, seed=5) if item["target"] != 2] + rare * 1


@fault("brightness wraps around in uint8", 1, bases.cnn, "train", "wrap|overflow", quick=True)
def _(case):
    def brighter(item):
        return {**item, "image": item["image"] + np.uint8(90)}

    case.augment = [brighter]


@fault("contrast wraps around in uint8 at random", 1, bases.plain, "train", "wrap|overflow")
def _(case):
    def sharper(item):
        factor = float(torch.empty(()).uniform_(1.2, 2.2))
        return {**item, "image": (item["image"] * factor).astype(np.int64).astype(np.uint8)}

    case.augment = [sharper]


@fault(
    "labels begin at 1, and the model has an output more", 1, bases.cnn, "begin|start|from 1|class 0|0 ", "label|class"
)
def _(case):
    case.train = [{**item, "target": item["target"] + 1} for item in case.train]
    case.valid = [{**item, "target": item["target"] + 1} for item in case.valid]
    case.model = lambda: bases.Cnn(7)
    case.callbacks = bases.accuracy(7)


@fault(
    "labels begin at 1, and the model has as many outputs as classes",
    1,
    bases.cnn,
    "train",
    "label|class",
    "6",
    quick=True,
)
def _(case):
    case.train = [{**item, "target": item["target"] + 1} for item in case.train]
    case.valid = [{**item, "target": item["target"] + 1} for item in case.valid]


class SameBatch:
    """Draws the same samples for each batch."""

    def __iter__(self):
        for _ in range(15):
            yield list(range(16))

    def __len__(self):
        return 15


@fault("all batches of an epoch are the same samples", 1, bases.cnn, "train", "batch", "same|alike|again|repeat")
def _(case):
    case.loader_options = {"batch_sampler": SameBatch()}


@fault("a sampler never draws a class", 1, bases.cnn, "train", "sampler|draw", "class 1|1 |never|left out|not drawn")
def _(case):
    weights = [0.0 if item["target"] == 1 else 1.0 for item in case.train]
    case.loader_options = {"sampler": WeightedRandomSampler(weights, len(weights))}


@fault(
    "a sampler draws a tenth of the data set alone",
    1,
    bases.plain,
    "train",
    "sampler|draw|epoch",
    "of its 240|of the 240",
)
def _(case):
    case.loader_options = {"sampler": list(range(24)) * 10}


@fault("validation holds one class alone", 1, bases.plain, "valid", "class", "one|only|missing|no sample|lacks")
def _(case):
    case.valid = [item for item in pictures.classes(240, seed=1) if item["target"] == 0]


@fault("validation has five samples", 1, bases.cnn, "valid", "5 ", "small|few|only|tell")
def _(case):
    case.valid = case.valid[:5]


@fault("two channels of the images are empty", 1, bases.cnn, "channel", "train", "constant|empty|zero|0|same")
def _(case):
    def red_alone(item):
        return {**item, "image": item["image"] * np.array([1, 0, 0], np.uint8)}

    case.prepare = [red_alone, *case.prepare]


class HalfRead(Dataset):
    """Counts its samples wrongly: it wraps around after a third."""

    def __init__(self, items, transforms):
        self.whole = Pictures(items, transforms)

    def __len__(self):
        return len(self.whole)

    def __getitem__(self, index):
        return self.whole[index % (len(self.whole) // 3)]


@fault(
    "each image is returned for three indices", 1, bases.mlp, "train", "same image|copies|twice|repeat|times|again|same"
)
def _(case):
    case.dataset = HalfRead
