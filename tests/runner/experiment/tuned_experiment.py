"""An experiment with a backbone that can be pretrained, loaded, frozen and unfrozen."""

from dataclasses import dataclass
from functools import partial

import torch
from kit import Keep, Kill
from torch import nn

from assay.callbacks import Metrics
from assay.runner import Experiment, load_pretrained


class Net(nn.Module):
    """Four numbers [N, 4] to logits; a backbone with statistics of its own, and a head."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh())
        self.head = nn.Linear(6, classes)

    def forward(self, image):
        return {"logits": self.head(self.backbone(image))}


@dataclass(kw_only=True)
class Tuned(Experiment):
    """Keeps its weights after each epoch in ``seen``; ``killed`` is the epoch and round that it ends in."""

    killed = None
    epochs: int = 2
    check: str = "off"
    batch_size: int = 6
    lr: float = 0.05
    device: str = "cpu"
    diagnostics: str = "off"
    classes: int = 3
    pretrained: bool = False

    def get_loaders(self):
        noise = torch.Generator().manual_seed(0)
        items = [{"image": torch.randn(4, generator=noise) + i % 3, "target": i % 3} for i in range(24)]
        return {"train": self.make_loader(items, shuffle=True), "valid": self.make_loader(items)}

    def get_model(self):
        net = Net(self.classes)
        net.backbone = load_pretrained(partial(pretend, net.backbone), "backbone", pretrained=self.pretrained)
        return net

    def get_callbacks(self):
        self.seen = Keep(state_of, hook="on_loader_end", loader="train")
        killed = [] if self.killed is None else [Kill(*self.killed)]
        return [Metrics(["accuracy"], num_classes=self.classes), self.seen, *killed]


def pretend(backbone, pretrained):
    """Return a backbone that was trained elsewhere."""
    if pretrained:
        with torch.no_grad():
            backbone[0].weight.fill_(0.25)
    return backbone


def state_of(runner):
    model = runner.engine.unwrap_model(runner.trained_model)
    return {name: value.clone() for name, value in model.state_dict().items()}
