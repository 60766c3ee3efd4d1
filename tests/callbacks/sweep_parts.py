"""Model and loaders of the sweep over all callbacks, importable by ``catalyst-run``."""

import torch
from torch import nn
from torch.utils.data import DataLoader

CLASSES = ["cat", "dog", "owl"]
STOCK = {"image": "features", "target": "targets", "output": "scores", "sample_id": "name"}
OURS = {"image": "image", "target": "target", "output": "logits", "sample_id": "sample_id"}


class Net(nn.Module):
    """A small convolutional classifier; its output is a tensor, or a dict with one."""

    def __init__(self, output_key=None):
        super().__init__()
        self.output_key = output_key
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(4, len(CLASSES))

    def forward(self, image):
        logits = self.head(self.body(image).flatten(1))
        return logits if self.output_key is None else {self.output_key: logits}


def make_loaders(names, count=24):
    noise = torch.Generator().manual_seed(0)
    items = [
        {
            names["image"]: torch.randn(3, 8, 8, generator=noise),
            names["target"]: i % 3,
            names["sample_id"]: f"sample-{i}",
        }
        for i in range(count)
    ]
    return {key: DataLoader(items, batch_size=8, shuffle=key == "train") for key in ("train", "valid")}


def make_stock_loaders():
    return make_loaders(STOCK)
