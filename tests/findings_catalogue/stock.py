"""Projects of plain Catalyst: tuple batches, own keys, own runners."""

import torch
from catalyst import dl
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from . import pictures
from .bases import cnn
from .case import normalize
from .nets import Cnn


def _pair(item):
    return item["image"], item["target"]


class Bare(nn.Module):
    """Returns the tensor alone."""

    def __init__(self, outputs=6):
        super().__init__()
        self.net = Cnn(outputs)

    def forward(self, image):
        return self.net(image)["logits"]


def supervised():
    """Return a project of ``SupervisedRunner`` with tuple batches."""
    case = cnn()
    case.prepare = [normalize, _pair]
    case.model = Bare
    case.runner = lambda case: dl.SupervisedRunner(
        input_key="features", output_key="scores", target_key="targets", loss_key="loss"
    )
    case.callbacks = lambda: [dl.AccuracyCallback(input_key="scores", target_key="targets", num_classes=6)]
    return case


class OwnRunner(dl.Runner):
    """Handles its batches by itself."""

    def handle_batch(self, batch):
        x, y = batch
        logits = self.model(x)
        self.batch = {"x": x, "y": y, "logits": logits}
        self.batch_metrics["loss"] = loss = F.cross_entropy(logits, y)
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()


def own_runner():
    case = supervised()
    case.runner, case.callbacks, case.criterion = lambda case: OwnRunner(), list, None
    return case


class GanRunner(dl.Runner):
    """Trains a generator against a discriminator, with two optimizers."""

    def handle_batch(self, batch):
        real, _ = batch
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        make, judge = self.model["generator"], self.model["discriminator"]
        fake = make(torch.randn(len(real), 16))
        judged = F.binary_cross_entropy_with_logits
        loss_d = judged(judge(real), ones) + judged(judge(fake.detach()), zeros)
        if self.is_train_loader:
            self.optimizer["discriminator"].zero_grad()
            self.engine.backward(loss_d)
            self.optimizer["discriminator"].step()
        loss_g = judged(judge(fake), ones)
        if self.is_train_loader:
            self.optimizer["generator"].zero_grad()
            self.engine.backward(loss_g)
            self.optimizer["generator"].step()
        self.batch_metrics.update(loss_d=loss_d, loss_g=loss_g)


def gan():
    case = supervised()
    case.criterion, case.callbacks = None, list
    case.runner = lambda case: GanRunner()
    case.model = lambda: {
        "generator": nn.Sequential(
            nn.Linear(16, 128), nn.LeakyReLU(0.2), nn.Linear(128, 3 * 24 * 24), nn.Unflatten(1, (3, 24, 24))
        ),
        "discriminator": nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 1),
        ),
    }  # fmt: skip
    case.optimizer = lambda models: {
        name: torch.optim.Adam(model.parameters(), 2e-4, betas=(0.5, 0.999)) for name, model in models.items()
    }
    return case


class Stream(IterableDataset):
    """Yields pairs without an index; Catalyst wants to know how many there are."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        for at in torch.randperm(len(self.items)).tolist():
            yield _pair(normalize(self.items[at]))


def stream():
    """Return a stock project of data sets without an index."""
    case = supervised()

    def loaders():
        train, valid = Stream(pictures.classes(240)), Stream(pictures.classes(72, seed=1))
        return {"train": DataLoader(train, 16), "valid": DataLoader(valid, 16)}

    case.loaders = loaders
    return case


def autoencoder():
    """Return a stock project whose target is its image."""
    case = supervised()
    case.prepare = [normalize, lambda item: (item["image"], item["image"])]
    case.callbacks = list
    case.criterion = nn.MSELoss()
    case.model = lambda: nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 2, 2), nn.ReLU(), nn.ConvTranspose2d(16, 3, 2, 2),
    )  # fmt: skip
    return case
