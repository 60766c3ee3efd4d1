"""Healthy trainings that faults are planted into."""

import numpy as np
import torch
from torch import nn

from assay.callbacks import Metrics
from assay.runner import LossTerm, collate_boxes

from . import pictures
from .case import Case, accuracy, flip, normalize
from .nets import Cnn, Mlp, Plain, TwoHeads, UNet, Vit


def cnn():
    return Case(pictures.classes(240), pictures.classes(72, seed=1), Cnn, augment=[flip], callbacks=accuracy())


def plain():
    """Have no normalization in the net."""
    return Case(pictures.classes(240), pictures.classes(72, seed=1), Plain, callbacks=accuracy())


def mlp():
    return Case(pictures.classes(240), pictures.classes(72, seed=1), Mlp, callbacks=accuracy())


def vit():
    return Case(pictures.classes(240), pictures.classes(72, seed=1), Vit, callbacks=accuracy())


def binary():
    """Tell disks from rings by one output."""
    items = [_as_float(item) for item in pictures.classes(200, kinds=2)]
    valid = [_as_float(item) for item in pictures.classes(64, seed=1, kinds=2)]
    return Case(
        items, valid, SingleLogit, nn.BCEWithLogitsLoss(), callbacks=lambda: [Metrics(["accuracy"], task="binary")]
    )


def _as_float(item):
    return {**item, "target": np.float32(item["target"])}


class SingleLogit(Cnn):
    def __init__(self):
        super().__init__(1)

    def forward(self, image):
        return {"logits": super().forward(image)["logits"][:, 0]}


def tags():
    return Case(
        pictures.tags(200), pictures.tags(64, seed=1), lambda: Cnn(3), nn.BCEWithLogitsLoss(),
        callbacks=lambda: [Metrics(["f1"], task="multilabel", num_classes=3)],
    )  # fmt: skip


def regression():
    return Case(pictures.ages(200), pictures.ages(64, seed=1), SingleNumber, nn.MSELoss(), losses=[LossTerm("number")])


class SingleNumber(Cnn):
    def __init__(self):
        super().__init__(1, key="number")

    def forward(self, image):
        return {"number": super().forward(image)["number"][:, 0]}


def two_heads():
    return Case(
        _lit(pictures.classes(240)), _lit(pictures.classes(72, seed=1)), TwoHeads,
        {"kind": nn.CrossEntropyLoss(), "light": nn.MSELoss()},
        losses=[LossTerm("logits", "target", "kind"), LossTerm("light", "brightness", "light")],
        callbacks=accuracy(),
    )  # fmt: skip


def _lit(items):
    return [{**item, "brightness": np.float32((item["image"].mean() / 255 - 0.4) / 0.1)} for item in items]


def segmentation():
    return Case(
        _with_masks(pictures.scenes(120)), _with_masks(pictures.scenes(40, seed=1)), UNet, augment=[flip],
        prepare=[normalize, _long_mask],
        losses=[LossTerm("logits", "mask")],
        callbacks=lambda: [Metrics(["iou"], num_classes=3, target_key="mask")], batch_size=8,
    )  # fmt: skip


def _long_mask(item):
    return {**item, "mask": torch.from_numpy(item["mask"].astype(np.int64))}


def _with_masks(items):
    """Return the items with masks and without boxes."""
    return [{key: part for key, part in item.items() if key not in ("bboxes", "labels")} for item in items]


def discs():
    """Find disks alone: masks of 0 and 1 as float32, and one output."""
    case = segmentation()
    case.prepare = [normalize, _disc_mask]
    case.model, case.criterion = lambda: OneMap(1), nn.BCEWithLogitsLoss()
    case.callbacks = lambda: [Metrics(["iou"], task="binary", target_key="mask")]
    return case


def _disc_mask(item):
    return {**item, "mask": torch.from_numpy((item["mask"] == 1).astype(np.float32))}


class OneMap(UNet):
    def forward(self, image):
        return {"logits": super().forward(image)["logits"][:, 0]}


def detection():
    return Case(
        with_boxes(pictures.scenes(96)), with_boxes(pictures.scenes(32, seed=1)), make_fcos, None,
        prepare=[normalize], losses=fcos_terms(), collate=collate_boxes, batch_size=8,
        options={"input_key": ("image", "target")}, epochs=1,
    )  # fmt: skip


def with_boxes(items):
    """Return the items with boxes and without masks."""
    return [{key: part for key, part in item.items() if key != "mask"} for item in items if len(item["labels"])]


def fcos_terms():
    from assay.experiments.detectors import loss_terms

    return loss_terms("fcos")


def make_fcos():
    from assay.experiments.detectors import make_detector

    return make_detector("fcos", "light", image_size=32, channels=32, num_classes=3, mean=(0,) * 3, std=(1,) * 3)
