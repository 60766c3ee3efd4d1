"""A toy of which ranks know the same, importable by their processes."""

import numpy as np
import torch
from torch import nn


class ToyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, image):
        return {"logits": self.head(image)}


def toy_net():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return ToyNet().double()


def toy_items(count):
    rng = np.random.default_rng(0)
    images, targets = torch.from_numpy(rng.normal(size=(count, 4))), rng.integers(0, 3, count)
    return [{"image": image, "target": int(target)} for image, target in zip(images, targets, strict=True)]
