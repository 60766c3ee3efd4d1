"""Bright pixels; a model that looks at each pixel, or at its neighbours too."""

from dataclasses import dataclass

import torch
from torch import nn

from assay.runner import Experiment
from assay.runner.prediction import MaskPrediction

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Convolutions(nn.Module):
    def __init__(self, size, classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, size, padding="same"), nn.Tanh(), nn.Conv2d(4, classes, size, padding="same")
        )

    def forward(self, image):
        return {"logits": self.layers(image)}


@dataclass(kw_only=True)
class Masks(Experiment):
    epochs: int = 1
    check: str = "off"
    device: str = "cpu"
    size: int = 1
    """Of the convolutions."""
    classes: int = 1
    """Channels of the output."""

    def get_loaders(self):
        noise = torch.Generator().manual_seed(0)
        images = torch.rand(4, 3, 8, 8, generator=noise)
        items = [{"image": image, "target": (image.mean(dim=0, keepdim=True) > 0.5).float()} for image in images]
        return {"train": self.make_loader(items), "valid": self.make_loader(items)}

    def get_criterion(self):
        return lambda output, target: nn.functional.mse_loss(output.mean(dim=1, keepdim=True), target)

    def get_model(self):
        return Convolutions(self.size, self.classes)

    def get_prediction(self):
        return MaskPrediction(mean=MEAN, std=STD, tile=64, overlap=16)
