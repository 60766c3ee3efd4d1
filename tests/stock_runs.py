"""A stock runner that trains a small network on noise, for the loggers of trackers."""

import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_stock(callbacks, loggers, *, epochs):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 3, 8, 8, generator=generator)
    loader = DataLoader(TensorDataset(images, torch.arange(12) % 3), batch_size=4)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    runner = dl.SupervisedRunner(input_key="features", output_key="logits", target_key="targets", loss_key="loss")
    return fit(
        runner, model, {"train": loader, "valid": loader}, callbacks, epochs=epochs, loggers=loggers,
        hparams={"lr": 0.1},
    )  # fmt: skip
