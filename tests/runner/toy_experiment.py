"""An experiment that trains in milliseconds, and notes the learning rate of each step."""

from dataclasses import dataclass

import torch
from kit import Keep
from torch import nn

from assay.callbacks import Metrics
from assay.runner import Experiment


class Net(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.factor = factor

    def forward(self, image):
        return {"logits": self.layer(image) * self.factor}


@dataclass(kw_only=True)
class Toy(Experiment):
    epochs: int = 2
    check: str = "off"
    batch_size: int = 4
    device: str = "cpu"
    factor: float = 1.0

    def get_loaders(self):
        noise = torch.Generator().manual_seed(0)
        items = [{"image": torch.randn(4, generator=noise), "target": i % 3} for i in range(18)]  # 5 batches
        return {"train": self.make_loader(items, shuffle=True), "valid": self.make_loader(items)}

    def get_model(self):
        return Net(self.factor)

    def get_callbacks(self):
        self.rates = Keep(
            lambda runner: runner.optimizer.param_groups[0]["lr"], hook="on_batch_start", loader="train", order=0
        )
        return [Metrics(num_classes=3), self.rates]
