"""Faults of a model's parts: what does not train, or is not there."""

import copy

import torch
from torch import nn

from .. import bases
from ..case import adam, fault, sgd
from ..nets import Cnn, block


@fault("the head is in no optimizer", 5, bases.cnn, "head", "optimizer", quick=True)
def _(case):
    case.optimizer = lambda model: adam(model.body)


@fault("the body is in no optimizer", 5, bases.vit, "token|patches|blocks", "optimizer")
def _(case):
    case.optimizer = lambda model: adam(model.head)


class InList(Cnn):
    """Keeps layers in a plain list."""

    def __init__(self):
        super().__init__()
        self.more = [nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)]

    def features(self, image):
        seen = self.body(image)
        for layer in self.more:
            seen = seen + layer(seen).relu()
        return seen.mean((2, 3))


@fault("layers stand in a plain list", 5, bases.cnn, "more", "list", quick=True)
def _(case):
    case.model = InList


class InDict(Cnn):
    """Keeps its heads in a plain dict."""

    def __init__(self):
        super().__init__()
        del self.head
        self.heads = {"logits": nn.Linear(32, 6)}

    def forward(self, image):
        features = self.features(image)
        return {name: head(features) for name, head in self.heads.items()}


@fault("heads stand in a plain dict", 5, bases.cnn, "heads", "dict")
def _(case):
    case.model = InDict


class MadeLate(Cnn):
    """Makes its head when it knows how many features there are."""

    def __init__(self):
        super().__init__()
        self.head = None

    def forward(self, image):
        features = self.features(image)
        if self.head is None:
            self.head = nn.Linear(features.shape[1], 6)
        return {"logits": self.head(features)}


@fault(
    "the head is made in the first forward pass",
    5,
    bases.cnn,
    "head",
    "first|forward|later|after",
    "optimizer",
    quick=True,
)
def _(case):
    case.model = MadeLate


@fault(
    "the body is frozen at its random initial values",
    5,
    bases.cnn,
    "body",
    "frozen|requires_grad|train",
    "random|initial",
    quick=True,
)
def _(case):
    def frozen():
        model = Cnn()
        model.body.requires_grad_(False)
        return model

    case.model = frozen


class Detached(Cnn):
    def forward(self, image):
        return {"logits": self.head(self.features(image).detach())}


@fault("the body is detached from the loss", 5, bases.cnn, "body", "gradient|detach", quick=True)
def _(case):
    case.model = Detached


class ThroughNumpy(Cnn):
    """Scales features by numbers that have left the graph, in one of two branches."""

    def __init__(self):
        super().__init__()
        self.side = block(3, 32)

    def features(self, image):
        with torch.no_grad():
            side = self.side(image).mean((2, 3))
        return super().features(image) + side


@fault("a branch runs without gradients", 5, bases.cnn, "side", "gradient|detach")
def _(case):
    case.model = ThroughNumpy


@fault("a head has no loss", 5, bases.two_heads, "light", "loss", quick=True)
def _(case):
    case.losses = case.losses[:1]


class Unused(Cnn):
    """Makes layers that its forward forgets."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Sequential(nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 32))


@fault("layers are made and never called", 5, bases.cnn, "attention", "never|unused|not called|not used|no use")
def _(case):
    case.model = Unused


@fault(
    "all parameters are frozen but the bias of the head",
    5,
    bases.cnn,
    "frozen|requires_grad|train",
    "body|head.weight|1 of|parameters",
)
def _(case):
    def frozen():
        model = Cnn()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name == "head.bias")
        return model

    case.model = frozen


@fault("the optimizer has a copy of the model", 5, bases.plain, "optimizer", "parameter|weight|body|head")
def _(case):
    case.optimizer = lambda model: sgd(copy.deepcopy(model))


@fault("there are two heads for one output, and the wrong one is optimized", 5, bases.two_heads, "kind", "optimizer")
def _(case):
    case.optimizer = lambda model: torch.optim.Adam([*model.body.parameters(), *model.light.parameters()], 2e-3)


class HalfFloat(nn.Module):
    """Computes in half precision, weights included."""

    def __init__(self):
        super().__init__()
        self.net = Cnn().to(torch.bfloat16)

    def forward(self, image):
        return {"logits": self.net(image.to(torch.bfloat16))["logits"].float()}


@fault("weights are in half precision", 5, bases.cnn, "bfloat16|half|16", "weight|parameter", quick=True)
def _(case):
    case.model = HalfFloat


@fault("the model has more outputs than there are classes", 5, bases.cnn, "10", "6", "output", quick=True)
def _(case):
    case.model = lambda: Cnn(10)
    case.callbacks = list


@fault("the model has the thousand outputs of ImageNet", 5, bases.vit, "1000|1,000", "6", "output")
def _(case):
    case.model = lambda: bases.Vit(1000)
    case.callbacks = list


@fault("the model has fewer outputs than there are classes", 5, bases.cnn, "4", "output", "class|label", quick=True)
def _(case):
    case.model = lambda: Cnn(4)
    case.callbacks = list
