"""Faults that show in the first epochs."""

import numpy as np
import torch
from torch import nn

from assay.callbacks import NonFiniteGuard

from .. import bases
from ..case import fault, sgd
from ..nets import Cnn


class RunningStatistics(Cnn):
    """Freezes the statistics of its normalization at values of other data."""

    def __init__(self):
        super().__init__()
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1e-4
                layer.running_mean.fill_(2.0)
                layer.running_var.fill_(0.05)


@fault(
    "statistics of normalization never come to fit the data",
    8,
    bases.cnn,
    "momentum|statistic",
    "body",
    "valid|eval|momentum",
    quick=True,
)
def _(case):
    case.model = RunningStatistics


@fault("some steps are not finite", 8, bases.cnn, "finite|nan|inf", "step|loss", quick=True)
def _(case):
    class Fragile(nn.CrossEntropyLoss):
        def forward(self, output, target):
            loss = super().forward(output, target)
            # 0 / 0 wherever the first sample is of class 0.
            return loss / (target[0] > 0)

    case.criterion = Fragile()
    case.callbacks = lambda: [*bases.accuracy()(), NonFiniteGuard("skip")]


@fault("a square root makes gradients infinite", 8, bases.mlp, "finite|nan|inf", "step|gradient|loss|layer")
def _(case):
    make = case.model

    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make()

        def forward(self, image):
            out = self.net(image)["logits"]
            return {"logits": torch.sqrt(out * (out > 0)) + out}

    case.model = Root
    case.callbacks = lambda: [*bases.accuracy()(), NonFiniteGuard("skip")]


@fault("the learning rate lets the loss run away", 8, bases.plain, "learning rate|lr|diverg|grow", "loss|high|large")
def _(case):
    case.optimizer = lambda model: sgd(model, lr=2.0, momentum=0.95)


def _(case):
    case.train = case.train[:40]
    case.optimizer = lambda model: torch.optim.Adam(model.parameters(), 1e-2)
    case.epochs = 12


@fault("nearly all samples of training are of one class", 1, bases.cnn, "train", "class 0", "rare|to 1|one class")
def _(case):
    others = [item for item in case.train if item["target"] != 0][:14]
    zeros = [item for item in bases.pictures.classes(900, seed=9) if item["target"] == 0]
    case.train = [*zeros, *others]


@fault("validation is of another time of day", 8, bases.cnn, "valid", "train", "dark|bright|mean|statistics")
def _(case):
    def dark(item):
        return {**item, "image": (item["image"] * 0.25).astype(np.uint8)}

    case.prepare_valid = [dark, *case.prepare]
