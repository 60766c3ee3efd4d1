"""Faults of what is done to images, in training against validation."""

import numpy as np
import torch
from torch.nn import functional as F

from .. import bases, stock
from ..case import MEAN, STD, Pictures, fault, flip, normalize
from ..nets import Mlp, Plain


def _bgr(item):
    return {**item, "image": item["image"][:, :, ::-1]}


def _raw(item, scale=1.0):
    """Bring the image to [C, H, W] float32 without a normalization."""
    image = item["image"].astype(np.float32) * scale
    return {**item, "image": torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)}


def _unit(item):
    return _raw(item, 1 / 255)


@fault(
    "validation images have their colours in the order of OpenCV",
    2,
    bases.cnn,
    "valid",
    "train",
    "bgr|red and blue|channels|colour",
    quick=True,
)
def _(case):
    case.prepare_valid = [_bgr, *case.prepare]


@fault(
    "training images have their colours in the order of OpenCV",
    2,
    bases.mlp,
    "valid",
    "train",
    "bgr|red and blue|channels|colour",
)
def _(case):
    case.augment = [*case.augment, _bgr]


@fault(
    "validation reaches to 255 and training to 1", 2, bases.plain, "valid", "train", "255|range|scale|times", quick=True
)
def _(case):
    case.prepare, case.prepare_valid = [_unit], [_raw]


@fault("validation is not normalized", 2, bases.cnn, "valid", "train", "normaliz|mean", quick=True)
def _(case):
    case.prepare_valid = [_unit]


@fault("training is not normalized", 2, bases.plain, "valid", "train", "normaliz|mean")
def _(case):
    case.prepare, case.prepare_valid = [_unit], case.prepare


@fault("images are normalized twice", 2, bases.cnn, "normaliz", "twice", quick=True)
def _(case):
    case.prepare = [*case.prepare, _again]
    case.callbacks = _told(MEAN, STD)


def _again(item):
    mean, std = (torch.tensor(of)[:, None, None] for of in (MEAN, STD))
    return {**item, "image": (item["image"] - mean) / std}


def _told(mean, std):
    from assay.callbacks import AugmentationPreview

    return lambda: [
        *bases.accuracy()(),
        AugmentationPreview(mean=[float(m) for m in mean], std=[float(s) for s in std]),
    ]


@fault("validation has another mean and std than training", 2, bases.vit, "valid", "train", "mean|normaliz|std")
def _(case):
    def other(item):
        return normalize(item, np.float32(0.1), np.float32(0.5))

    case.prepare_valid = [other]


@fault(
    "callbacks are told another mean and std than the data has",
    2,
    bases.cnn,
    "mean|std|normaliz",
    "preview|told|callback",
)
def _(case):
    case.prepare = [_unit]
    case.callbacks = _told(MEAN, STD)


@fault("images reach from 0 to 255", 2, bases.plain, "255", "normaliz|range|scale", quick=True)
def _(case):
    case.prepare = [_raw]


@fault(
    "the mean and std of bytes are taken from images of 0 to 1",
    2,
    bases.cnn,
    "mean|std|normaliz|nearly|hardly|constant",
)
def _(case):
    def wrong(item):
        image = _unit(item)["image"]
        return {
            **item,
            "image": (image - torch.tensor([115.0, 92, 69])[:, None, None])
            / torch.tensor([56.0, 51, 46])[:, None, None],
        }

    case.prepare = [wrong]


@fault(
    "validation images stand on their heads",
    2,
    bases.cnn,
    "valid",
    "train",
    "upside|flip|vertical|turned|orient|rotat",
    quick=True,
)
def _(case):
    case.prepare_valid = [lambda item: {**item, "image": item["image"][::-1]}, *case.prepare]


@fault("validation images are turned by a quarter", 2, bases.plain, "valid", "train", "turn|rotat|transpos|orient")
def _(case):
    case.prepare_valid = [lambda item: {**item, "image": np.rot90(item["image"]).copy()}, *case.prepare]


def _shake(item):
    image = item["image"] * float(torch.empty(()).uniform_(0.7, 1.1))
    return {**item, "image": np.roll(image, int(torch.randint(-3, 4, ())), 1).astype(np.uint8)}


@fault("validation is augmented too", 2, bases.cnn, "valid", "augment|draw|random|twice|again", quick=True)
def _(case):
    case.augment = [flip, _shake]
    case.prepare_valid = [*case.augment, *case.prepare]


class SeededItems(Pictures):
    """Seeds the generators before each item, for a run that can be repeated."""

    def __getitem__(self, index):
        torch.manual_seed(42)
        np.random.seed(42)
        return super().__getitem__(index)


@fault(
    "the augmentation draws the same for all samples",
    2,
    bases.cnn,
    "train",
    "seed|same",
    "torch|numpy|random|draw|every|all",
    quick=True,
)
def _(case):
    case.augment = [_shake]
    case.dataset = SeededItems


class OwnChance(Pictures):
    """Holds a generator, of which each worker has a copy."""

    def __init__(self, items, transforms):
        super().__init__(items, transforms)
        self.chance = np.random.default_rng(0)

    def __getitem__(self, index):
        item = dict(self.items[index])
        item["image"] = (item["image"] * self.chance.uniform(0.5, 1)).astype(np.uint8)
        for transform in self.transforms:
            item = transform(item)
        return item


# A DictRunner seeds such generators for each item.
@fault("all workers draw the same", 2, stock.supervised, "train", "worker", "same|alike")
def _(case):
    case.dataset = OwnChance
    case.loader_options = {"num_workers": 2}


@fault(
    "validation shows a part of the image, enlarged",
    2,
    bases.plain,
    "valid",
    "train",
    "scale|zoom|crop|large|detail|fine|sharp|blur|size",
)
def _(case):
    def enlarged(item):
        middle = item["image"][6:18, 6:18]
        return {**item, "image": middle.repeat(2, 0).repeat(2, 1)}

    case.prepare_valid = [enlarged, *case.prepare]


@fault("validation is grey", 2, bases.cnn, "valid", "train", "grey|colour|channels")
def _(case):
    def grey(item):
        return {**item, "image": item["image"].mean(2, keepdims=True).repeat(3, 2).astype(np.uint8)}

    case.prepare_valid = [grey, *case.prepare]


@fault(
    "training images are far more blurred than validation images",
    2,
    bases.cnn,
    "valid",
    "train",
    "blur|sharp|detail|fine|contrast|std|spread",
)
def _(case):
    def blurred(item):
        image = F.avg_pool2d(F.pad(item["image"][None], (4,) * 4, mode="replicate"), 9, 1)[0]
        return {**item, "image": image}

    case.prepare, case.prepare_valid = [normalize, blurred], [normalize]


@fault(
    "training images are cut at 0 and 1 after their normalization", 2, bases.plain, "valid|0 and 1|cut|clip", "train"
)
def _(case):
    def cut(item):
        return {**item, "image": item["image"].clamp(0, 1)}

    case.prepare, case.prepare_valid = [normalize, cut], [normalize]


@fault("images are integers that a normalization cut off", 2, bases.cnn, "integer|int|rounded|values|levels")
def _(case):
    def cut(item):
        return {**item, "image": item["image"].to(torch.int8).float()}

    case.prepare = [normalize, cut]


def _constants_of_shares(item):
    """Take constants of 0 to 1 from bytes."""
    return normalize({**item, "image": item["image"].astype(np.float32) * 255})


@fault("validation has constants of 0 to 1 on bytes", 2, bases.mlp, "valid", "0 to 255|bytes", "mean", "std|deviation")
def _(case):
    case.prepare_valid = [_constants_of_shares]


@fault("images are bytes less a mean of 0 to 1", 2, bases.cnn, "train", "0 to 255|bytes", "mean", "std|deviation")
def _(case):
    case.prepare = [_constants_of_shares]


@fault("images of 0 to 1 are cast to bytes", 2, bases.vit, "train", "integer|whole numbers|cast")
def _(case):
    case.prepare = [lambda item: {**item, "image": _unit(item)["image"].to(torch.uint8).float()}]


@fault("colours are reshaped instead of turned", 2, bases.cnn, "train", "reshape|permute", "channels", quick=True)
def _(case):
    def reshaped(item):
        image = np.ascontiguousarray(item["image"])
        return normalize({**item, "image": image.reshape(3, *image.shape[:2]).transpose(1, 2, 0)})

    case.prepare = [reshaped]


@fault("validation is normalized once more, and nobody is told how", 2, bases.plain, "valid", "twice|once more")
def _(case):
    case.prepare_valid = [normalize, _again]


@fault("red and blue are exchanged after the normalization", 2, bases.cnn, "valid", "train", "red and blue|bgr")
def _(case):
    case.prepare_valid = [normalize, lambda item: {**item, "image": item["image"].flip(0)}]


def _scaling(kind, scale):
    class Scaling(kind):
        def forward(self, image):
            return super().forward(scale(image, self.training))

    return Scaling


def _constants(image):
    return (torch.tensor(of, dtype=image.dtype, device=image.device)[:, None, None] for of in (MEAN, STD))


def _normalize_again(image, _):
    mean, std = _constants(image)
    return (image - mean) / std


@fault("the model normalizes what the transforms have normalized", 2, bases.plain, "forward", "normal", "already|twice")
def _(case):
    case.model = _scaling(Plain, _normalize_again)


@fault("the model divides images of 0 to 1 by 255", 2, bases.mlp, "forward", "255", "already|twice")
def _(case):
    case.prepare = [_unit]
    case.model = _scaling(Mlp, lambda image, _: image / 255)


@fault("the model divides by 255 in evaluation mode alone", 2, bases.plain, "forward", "evaluation")
def _(case):
    case.model = _scaling(Plain, lambda image, training: image if training else image / 255)
