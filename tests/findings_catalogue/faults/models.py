"""Faults of a model's values: weights, signals, modes, outputs."""

import torch
from torch import nn

from .. import bases, stock
from ..case import fault
from ..nets import Cnn, Mlp, Plain, Vit


def _made(case, change, make=None):
    """Have a model changed after it is made."""
    make = make or case.model

    def changed():
        model = make()
        with torch.no_grad():
            change(model)
        return model

    case.model = changed


@fault(
    "units of a layer are dead from the start", 5, bases.plain, "body", "dead|never active|always 0|zero", quick=True
)
def _(case):
    _made(case, lambda model: model.body[2].bias.fill_(-10))


@fault(
    "the signal vanishes through a stack of sigmoids",
    5,
    bases.plain,
    "vanish|fade|shrink|smaller|saturat",
    "body",
    quick=True,
)
def _(case):
    case.model = lambda: Plain(depth=8, act=nn.Sigmoid)


@fault("weights that are far too small let the signal vanish", 5, bases.mlp, "vanish|fade|small|shrink", "layers")
def _(case):
    def small(model):
        for layer in model.layers:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(0.02)
                layer.bias.zero_()

    _made(case, small, lambda: Mlp(depth=4))


@fault("weights of std 3 let the signal explode", 5, bases.plain, "explod|grow|large|times", "body", quick=True)
def _(case):
    def large(model):
        for layer in model.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=3)

    _made(case, large)


@fault("the head begins with weights of std 5", 5, bases.cnn, "head", "large|std|5")
def _(case):
    _made(case, lambda model: nn.init.normal_(model.head.weight, std=5))


@fault("all weights of a layer are the same", 5, bases.mlp, "layers", "same|alike|symmetr|equal", quick=True)
def _(case):
    _made(case, lambda model: model.layers[1].weight.fill_(0.01))


@fault("all layers begin at zero", 5, bases.mlp, "layers", "zero|0", quick=True)
def _(case):
    _made(case, lambda model: [parameter.zero_() for parameter in model.parameters()])


@fault("a weight is NaN from the start", 5, bases.cnn, "head", "nan|finite")
def _(case):
    _made(case, lambda model: model.head.weight[0, 0].fill_(float("nan")))


class AlwaysEval(Cnn):
    """Keeps its body in evaluation mode, as of a net that was loaded for fine-tuning."""

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self


@fault("the body stays in evaluation mode while it trains", 5, bases.cnn, "body", "eval", quick=True)
def _(case):
    case.model = AlwaysEval


class EvalInForward(Cnn):
    """Calls eval in its forward, as code that was copied from a script for prediction."""

    def forward(self, image):
        self.eval()
        return super().forward(image)


@fault("the model puts itself in evaluation mode", 5, bases.cnn, "eval", "mode", "body|dropout|norm|model")
def _(case):
    case.model = lambda: EvalInForward(dropout=0.3)


@fault("batch normalization has a momentum of 0", 5, bases.cnn, "momentum", "body", quick=True)
def _(case):
    case.model = lambda: Cnn(norm=lambda channels: nn.BatchNorm2d(channels, momentum=0.0))


@fault("batch normalization has the momentum of Keras", 5, bases.cnn, "momentum", "body", "0.99")
def _(case):
    case.model = lambda: Cnn(norm=lambda channels: nn.BatchNorm2d(channels, momentum=0.99))


@fault("batch normalization keeps no statistics", 5, bases.cnn, "track_running_stats|statistics", "body")
def _(case):
    case.model = lambda: Cnn(norm=lambda channels: nn.BatchNorm2d(channels, track_running_stats=False))


class NormOfFeatures(Cnn):
    """Normalizes features of the whole image over the batch."""

    def __init__(self):
        super().__init__(norm=lambda channels: nn.GroupNorm(4, channels))
        self.norm = nn.BatchNorm1d(32)

    def forward(self, image):
        return {"logits": self.head(self.norm(self.features(image)))}


@fault("batch normalization over two samples", 5, bases.cnn, "norm", "2", "sample|values|batch")
def _(case):
    case.model, case.batch_size = NormOfFeatures, 2
    case.train = case.train[:120]


@fault("batch normalization with a batch of one", 5, bases.cnn, "body", "batch", "1|one")
def _(case):
    case.batch_size, case.train, case.epochs = 1, case.train[:60], 1


@fault("nine in ten features are dropped", 5, bases.cnn, "dropout", "0.95|95", quick=True)
def _(case):
    case.model = lambda: Cnn(dropout=0.95)


@fault(
    "attention takes the batch for the sequence",
    5,
    bases.vit,
    "sample",
    "batch|other",
    "attention|block|logits|output",
    quick=True,
)
def _(case):
    case.model = lambda: Vit(batch_first=False)


class MixedUp(Cnn):
    """Takes a view where it means a permutation, so that samples run into each other."""

    def features(self, image):
        seen = self.body(image)
        return seen.transpose(0, 1).reshape(len(image), 32, -1).mean(2)


@fault(
    "a reshape mixes the samples of a batch",
    5,
    bases.plain,
    "sample",
    "batch|other",
    "mix|influence|depend|leak|each other",
)
def _(case):
    case.model = MixedUp


class Centred(Cnn):
    def features(self, image):
        features = super().features(image)
        return features - features.mean(0)


@fault(
    "features are centred over the batch", 5, bases.cnn, "sample", "batch|other", "mix|influence|depend|leak|each other"
)
def _(case):
    case.model = Centred


class Forgetful(Cnn):
    """Multiplies its features by what is 0."""

    def features(self, image):
        return super().features(image) * torch.relu(-self.body(image).mean((2, 3)))


@fault("outputs do not depend on the image", 5, bases.cnn, "logits|output", "same|constant|depend|every", quick=True)
def _(case):
    case.model = Forgetful


class Residual(Plain):
    """Adds 10 times what it computes, over and over."""

    def forward(self, image):
        seen = self.body[:2](image)
        for layer in [self.body[2]] * 6:
            seen = seen + 3 * layer(seen)
        return {"logits": self.head(nn.functional.adaptive_avg_pool2d(seen, 4).flatten(1))}


@fault(
    "a residual stack without normalization explodes",
    5,
    bases.plain,
    "explod|grow|large|times",
    "body|head|logits|output",
)
def _(case):
    case.model = Residual


class OfRoots(Cnn):
    """Takes the root of features of which many are 0."""

    def features(self, image):
        features = super().features(image)
        return torch.sqrt(features * (features > features.mean()))


@fault("the root of 0 has an infinite gradient", 5, bases.cnn, "gradient", "body|head", "sqrt")
def _(case):
    case.model = OfRoots


@fault(
    "an own step puts the model into training mode in validation", 5, stock.own_runner, "valid", "training mode", "body"
)
def _(case):
    class Trains(stock.OwnRunner):
        def handle_batch(self, batch):
            self.model.train()
            super().handle_batch(batch)

    case.runner = lambda case: Trains()


class AlwaysDrops(Cnn):
    def features(self, image):
        return nn.functional.dropout(super().features(image), 0.5)


@fault("dropout by a function goes on in validation", 5, bases.cnn, "dropout", "features", "evaluation|valid")
def _(case):
    case.model = AlwaysDrops
