"""Faults of the loss, and of outputs against it."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.runner import LossTerm

from .. import bases, pictures, stock
from ..case import accuracy, fault
from ..nets import Cnn


class Ending(nn.Module):
    """Ends a net with a function of its outputs."""

    def __init__(self, net, end):
        super().__init__()
        self.net, self.end = net, end

    def forward(self, image):
        return {key: self.end(output) for key, output in self.net(image).items()}


def _end(case, end):
    make = case.model
    case.model = lambda: Ending(make(), end)


@fault("a softmax before cross entropy", 6, bases.cnn, "softmax", "logits", "cross|loss", quick=True)
def _(case):
    _end(case, nn.Softmax(1))


@fault("a sigmoid before a loss of logits", 6, bases.binary, "sigmoid", "logits", quick=True)
def _(case):
    _end(case, nn.Sigmoid())


@fault("a sigmoid before a loss of logits, with several labels", 6, bases.tags, "sigmoid", "logits")
def _(case):
    _end(case, nn.Sigmoid())


@fault("a sigmoid before a loss of masks that takes logits", 6, bases.discs, "sigmoid", "logits")
def _(case):
    _end(case, nn.Sigmoid())


@fault("a ReLU after the last layer", 6, bases.plain, "relu|negative", "logits", quick=True)
def _(case):
    _end(case, nn.ReLU())


@fault("a softmax over the samples", 6, bases.cnn, "softmax", "axis|dim|samples|batch", "logits", quick=True)
def _(case):
    _end(case, nn.Softmax(0))


@fault("a log-softmax over the samples", 6, bases.mlp, "softmax", "axis|dim|samples|batch", "logits")
def _(case):
    _end(case, nn.LogSoftmax(0))
    case.criterion = nn.NLLLoss()


@fault("logits before a loss of log-probabilities", 6, bases.cnn, "log", "logits", "nll|probabilit|softmax", quick=True)
def _(case):
    case.criterion = nn.NLLLoss()


class Negative(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return -super().forward(output, target)


@fault("the loss has the wrong sign", 6, bases.cnn, "right", "wrong", "loss|costs", quick=True)
def _(case):
    case.criterion = Negative()


def overlap(output, target):
    """Return the Dice score, which is to be large."""
    probability = output.sigmoid()
    return 2 * (probability * target).sum() / (probability.sum() + target.sum())


@fault("a Dice score is minimized", 6, bases.discs, "right", "wrong", "loss|costs")
def _(case):
    case.criterion = overlap


@fault("the logits are multiplied by 60", 6, bases.cnn, "initial|first|start|before", "loss", "chance|1.79|expected")
def _(case):
    _end(case, lambda output: output * 60)


@fault(
    "a bias makes the model sure of one class",
    6,
    bases.plain,
    "initial|first|start|before|bias",
    "chance|1.79|expected|large|sure",
    "loss|head",
)
def _(case):
    make = case.model

    def biased():
        model = make()
        model.head.bias.data[0] = 25
        return model

    case.model = biased


@fault("the loss is a sum over samples", 6, bases.cnn, "sum", "loss|reduction|mean", quick=True)
def _(case):
    case.criterion = nn.CrossEntropyLoss(reduction="sum")


class OwnSum(nn.Module):
    def forward(self, output, target):
        return ((output - target) ** 2).sum()


@fault("an own loss sums squares", 6, bases.regression, "sum", "loss|batch|mean|samples")
def _(case):
    case.criterion = OwnSum()


def _imbalanced(case):
    shares = (0.4, 0.25, 0.15, 0.1, 0.06, 0.04)
    case.train = pictures.classes(300, seed=7, shares=shares)
    case.valid = pictures.classes(100, seed=8, shares=shares)
    return torch.tensor(np.bincount([item["target"] for item in case.train], minlength=6), dtype=torch.float32)


@fault(
    "class weights grow with the number of samples",
    6,
    bases.cnn,
    "weight",
    "class|frequent|rare|common",
    "wrong|more|grow|favour|invert",
    quick=True,
)
def _(case):
    counts = _imbalanced(case)
    case.criterion = nn.CrossEntropyLoss(counts / counts.mean())


@fault("a class has a weight of 0", 6, bases.cnn, "weight", "class 4|4 ", "0|nothing|never|ignor")
def _(case):
    case.criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 1, 1, 1, 0, 1]))


@fault("a class is the ignore_index", 6, bases.cnn, "ignore", "class 0|0 ", quick=True)
def _(case):
    case.criterion = nn.CrossEntropyLoss(ignore_index=0)


@fault("the ignore_index takes the squares of masks", 6, bases.segmentation, "ignore", "class 2|2 ")
def _(case):
    case.criterion = nn.CrossEntropyLoss(ignore_index=2)


@fault(
    "pos_weight is turned around",
    6,
    bases.tags,
    "pos_weight|weight",
    "positive|rare|label|class",
    "wrong|less|below|0.",
)
def _(case):
    def rare(items):
        return [{**item, "target": item["target"] * (index % 5 == 0)} for index, item in enumerate(items)]

    case.train, case.valid = rare(case.train), rare(case.valid)
    case.criterion = nn.BCEWithLogitsLoss(pos_weight=torch.full((3,), 0.1))


class Auxiliary(Cnn):
    """Has a head of its own for the loss, beside the one that is used."""

    def __init__(self):
        super().__init__()
        self.helper = nn.Linear(32, 6)

    def forward(self, image):
        features = self.features(image)
        return {"logits": self.head(features), "helper": self.helper(features)}


@fault("metrics read another output than the loss", 6, bases.cnn, "helper", "logits", "metric", quick=True)
def _(case):
    case.model, case.losses = Auxiliary, [LossTerm("helper")]


@fault(
    "a term of the loss has no influence",
    6,
    bases.two_heads,
    "light",
    "influence|share|weight|small|nothing|%",
    quick=True,
)
def _(case):
    case.losses = [case.losses[0], LossTerm("light", "brightness", "light", weight=1e-6)]


@fault(
    "a term of the loss has all the influence",
    6,
    bases.two_heads,
    "light",
    "all|share|weight|dominat|influence|%|times",
)
def _(case):
    case.losses = [case.losses[0], LossTerm("light", "brightness", "light", weight=3000)]


class Column(Cnn):
    def __init__(self):
        super().__init__(1, key="number")


@fault(
    "numbers [N, 1] against targets [N] broadcast", 6, bases.regression, "broadcast|shape", "1", "number", quick=True
)
def _(case):
    case.model = Column


@fault("one-hot maps against a mask without channels broadcast", 6, bases.discs, "broadcast|shape", "logits")
def _(case):
    def squared(output, target):
        return ((output.sigmoid() - target) ** 2).mean()

    case.model, case.criterion, case.callbacks = lambda: bases.UNet(1), squared, list
    case.batch_size = 8


@fault(
    "targets are in the thousands", 6, bases.regression, "target", "scale|times|thousand|std|large|normaliz", quick=True
)
def _(case):
    case.train = [{**item, "target": np.float32(5000 + 3000 * item["target"])} for item in case.train]
    case.valid = [{**item, "target": np.float32(5000 + 3000 * item["target"])} for item in case.valid]


@fault(
    "validation has targets in another unit", 6, bases.regression, "target", "valid", "train", "scale|times|unit|mean"
)
def _(case):
    case.valid = [{**item, "target": np.float32(100 * item["target"])} for item in case.valid]


@fault(
    "cross entropy over one output",
    6,
    bases.binary,
    "one output|1 output|single|1 class|one number",
    "logits|cross|output",
)
def _(case):
    case.train, case.valid = pictures.classes(200, kinds=1), pictures.classes(64, seed=1, kinds=1)
    case.train = pictures.classes(200, kinds=2)
    case.train = [{**item, "target": np.int64(0)} for item in case.train]
    case.model, case.criterion, case.callbacks = lambda: Cnn(1), nn.CrossEntropyLoss(), list


@fault("a label smoothing of 0.95", 6, bases.vit, "smoothing", "0.95|95|right|wrong")
def _(case):
    case.criterion = nn.CrossEntropyLoss(label_smoothing=0.95)


@fault(
    "a sigmoid before cross entropy", 6, bases.vit, "sigmoid|0 to 1|between 0 and 1|probabilit", "logits", quick=True
)
def _(case):
    _end(case, nn.Sigmoid())


@fault(
    "a tanh before a number that reaches further", 6, bases.regression, "tanh|-1|reach|range|bound", "number", "target"
)
def _(case):
    case.train = [{**item, "target": np.float32(10 * item["target"] - 5)} for item in case.train]
    case.valid = [{**item, "target": np.float32(10 * item["target"] - 5)} for item in case.valid]
    _end(case, nn.Tanh())


@fault(
    "a number is learned where the loss wants the class",
    6,
    bases.cnn,
    "class",
    "number|regress|mse|squared|one-hot",
    "logits|loss|output",
)
def _(case):
    class Numbers(Cnn):
        def forward(self, image):
            return {"logits": super().forward(image)["logits"], "value": super().forward(image)["logits"].mean(1)}

    case.model, case.criterion = Numbers, lambda output, target: F.mse_loss(output, target.float())
    case.losses = [LossTerm("value")]


@fault(
    "the loss is cut off from large errors", 6, bases.plain, "gradient|right|blank|constant", "loss|logits|body|head"
)
def _(case):
    # Where all is above the limit, the gradient is zero.
    case.criterion = lambda output, target: F.cross_entropy(output, target).clamp(max=0.5)


def _(case):
    case.losses = [LossTerm("logits", "target", "kind"), LossTerm("light", "target", "light")]


@fault("accuracy is of three classes, and there are six", 6, bases.cnn, "3", "6", "class|metric|callback")
def _(case):
    case.callbacks = accuracy(3)


def _own(loss):
    """Return a case whose own ``handle_batch`` computes this loss."""

    class Runner(stock.OwnRunner):
        def handle_batch(self, batch):
            x, y = batch
            loss_now = loss(self.model(x), y)
            self.batch_metrics["loss"] = loss_now
            if self.is_train_loader:
                loss_now.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()

    case = stock.own_runner()
    case.runner = lambda case: Runner()
    return case


@fault("an own step takes the loss with the wrong sign", 6, stock.own_runner, "right", "wrong", "loss", "weight")
def _(case):
    return _own(lambda output, target: -F.cross_entropy(output, target))


@fault("an own step sums logarithms with the wrong sign", 6, stock.own_runner, "right", "wrong", "loss", "larger")
def _(case):
    return _own(lambda output, target: output.log_softmax(1).gather(1, target[:, None]).mean())


@fault("an own step takes its softmax over the samples", 6, stock.own_runner, "softmax", "samples", "axis 0")
def _(case):
    return _own(lambda output, target: F.nll_loss(output.log_softmax(0), target))


@fault("the number of a class goes into a binary loss", 6, bases.cnn, "0 and 1|0 to 1", "target", "loss", "5")
def _(case):
    case.model, case.callbacks = bases.SingleLogit, list
    case.criterion = lambda output, target: F.binary_cross_entropy_with_logits(output, target.float())


@fault("a ReLU before a number that may be negative", 6, bases.regression, "relu", "number", "target", "from 0")
def _(case):
    case.train = [{**item, "target": np.float32(3.5 * item["target"] - 1.7)} for item in case.train]
    case.valid = [{**item, "target": np.float32(3.5 * item["target"] - 1.7)} for item in case.valid]
    _end(case, nn.ReLU())
