"""The loop that one would write by hand, without anything that is not needed to train."""

from pathlib import Path

import torch
from torch import nn

from ..workload import Workload, weigh


def train(workload: Workload, folder: Path, model: nn.Module) -> None:
    """Train and validate; nothing is read, logged or saved."""
    device = torch.device(workload.device)
    model.to(device)
    optimizer, loaders = workload.get_optimizer(model), workload.get_loaders()
    for _ in range(workload.epochs):
        model.train()
        for batch in loaders["train"]:
            image, target = (part.to(device, non_blocking=True) for part in batch)
            optimizer.zero_grad()
            with workload.autocast():
                loss = weigh(model(image), target)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            total = torch.zeros((), device=device)
            for batch in loaders["valid"]:
                image, target = (part.to(device, non_blocking=True) for part in batch)
                with workload.autocast():
                    total += weigh(model(image), target)
        total.item()
