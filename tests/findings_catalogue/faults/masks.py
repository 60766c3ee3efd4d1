"""Faults of masks."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .. import bases
from ..case import fault, normalize


def _change(case, change, *, valid=True):
    """Change each item of training, and of validation too, before it is prepared."""
    case.train = [change(index, dict(item)) for index, item in enumerate(case.train)]
    if valid:
        case.valid = [change(index, dict(item)) for index, item in enumerate(case.valid)]


@fault("images are mirrored and their masks are not", 4, bases.segmentation, "train", "mask", "flip|mirror", quick=True)
def _(case):
    def half(item):
        return {**item, "image": item["image"][:, ::-1]} if torch.rand(()) < 0.5 else item

    case.augment = [half]


@fault(
    "all images of training are mirrored and their masks are not", 4, bases.segmentation, "train", "mask", "flip|mirror"
)
def _(case):
    case.augment = [lambda item: {**item, "image": item["image"][:, ::-1]}]


@fault("masks are shifted by four pixels", 4, bases.segmentation, "train", "mask", "shift|moved|pixel", quick=True)
def _(case):
    case.augment = [lambda item: {**item, "mask": np.roll(item["mask"], 4, 1)}]


@fault(
    "masks belong to other images",
    4,
    bases.segmentation,
    "train",
    "mask",
    "another|other image|follow|match",
    quick=True,
)
def _(case):
    masks = [item["mask"] for item in case.train]
    _change(case, lambda index, item: {**item, "mask": masks[index - 7]}, valid=False)


@fault("masks are turned by a quarter", 4, bases.segmentation, "train", "mask", "turn|rotat|transpos|follow|flip")
def _(case):
    case.augment = [lambda item: {**item, "mask": np.rot90(item["mask"]).copy()}]


@fault(
    "masks are resized between their classes",
    4,
    bases.segmentation,
    "mask",
    "interpol|between|resiz|border",
    quick=True,
)
def _(case):
    def resized(item):
        mask = torch.from_numpy(item["mask"] * 1.0)[None, None]
        small = F.interpolate(mask, size=(24, 24), mode="bilinear", antialias=True)
        again = F.interpolate(small, size=(32, 32), mode="bilinear")[0, 0]
        return {**item, "mask": again.round().numpy().astype(np.uint8)}

    case.augment = [resized]


@fault(
    "most masks are empty", 4, bases.segmentation, "train", "mask", "empty|nothing|only class 0|background", quick=True
)
def _(case):
    _change(case, lambda index, item: {**item, "mask": item["mask"] * (index % 6 == 0)}, valid=False)


@fault(
    "masks of validation are inverted", 4, bases.discs, "valid", "invert|opposite|exchanged|reverse|swapped", quick=True
)
def _(case):
    case.prepare_valid = [*case.prepare, lambda item: {**item, "mask": 1 - item["mask"]}]


@fault("masks of training are inverted", 4, bases.discs, "train", "invert|opposite|exchanged|reverse|swapped")
def _(case):
    case.augment = [lambda item: {**item, "mask": np.uint8(item["mask"] != 1)}]


@fault("masks are 0 and 255 for a loss of 0 and 1", 4, bases.discs, "mask", "255", quick=True)
def _(case):
    case.prepare = [normalize, lambda item: {**item, "mask": torch.from_numpy((item["mask"] == 1) * np.float32(255))}]


@fault(
    "void of 255 counts, as the loss has no ignore_index",
    4,
    bases.segmentation,
    "255",
    "ignore_index|void|ignore",
    "mask",
)
def _(case):
    def void(item):
        mask = item["mask"].copy()
        mask[:2] = 255
        return {**item, "mask": mask}

    case.augment = [void]


@fault("void is class 3, which the loss learns", 4, bases.segmentation, "3", "mask", "class|void|output|ignore|border")
def _(case):
    def void(index, item):
        mask = item["mask"].copy()
        border = (np.roll(mask, 1, 0) != mask) | (np.roll(mask, 1, 1) != mask)
        mask[border] = 3
        return {**item, "mask": mask}

    _change(case, void, valid=False)
    case.model = lambda: bases.UNet(4)
    case.callbacks = list


@fault(
    "masks have the class of squares in validation alone",
    4,
    bases.segmentation,
    "class 2|2 ",
    "train",
    "missing|no sample|lacks|never|none|no pixel",
)
def _(case):
    _change(case, lambda index, item: {**item, "mask": item["mask"] * (item["mask"] != 2)}, valid=False)


@fault(
    "the classes of masks are exchanged in validation",
    4,
    bases.segmentation,
    "valid",
    "exchanged|swapped|differ",
    "1",
    "2",
)
def _(case):
    case.prepare_valid = [lambda item: {**item, "mask": ((3 - item["mask"]) % 3).astype(np.uint8)}, *case.prepare]


@fault("an output is softmaxed over the width", 6, bases.segmentation, "softmax", "axis|dim|width|sum")
def _(case):
    class Wide(bases.UNet):
        def forward(self, image):
            return {"logits": F.log_softmax(super().forward(image)["logits"], -1)}

    case.model, case.criterion = Wide, nn.NLLLoss()
