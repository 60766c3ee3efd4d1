"""The loop that one would write by hand, without anything that is not needed to train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..workload import Workload, weigh


def train(workload: Workload, folder: Path, model: nn.Module) -> None:
    """Train and validate; nothing is read, logged or saved."""
    device = torch.device(workload.device)
    model.to(device)
    optimizer, loaders = workload.get_optimizer(model), workload.get_loaders()
    for _ in range(workload.epochs):
        model.train()
        for image, target in _batches(loaders["train"], device):
            optimizer.zero_grad()
            with workload.autocast():
                loss = _loss(workload, model, image, target)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            total = torch.zeros((), device=device)
            for image, target in _batches(loaders["valid"], device):
                with workload.autocast():
                    if workload.boxes:
                        model(list(image))  # a detector has no losses in evaluation
                    else:
                        total += _loss(workload, model, image, target)
        total.item()


def _batches(loader: Any, device: torch.device) -> Iterator[tuple[Tensor, Any]]:
    for image, target in loader:
        yield image.to(device, non_blocking=True), _to(target, device)


def _to(target: Any, device: torch.device) -> Any:
    if isinstance(target, Tensor):
        return target.to(device, non_blocking=True)
    return [{name: part.to(device, non_blocking=True) for name, part in one.items()} for one in target]


def _loss(workload: Workload, model: nn.Module, image: Tensor, target: Any) -> Tensor:
    if workload.boxes:
        return torch.stack(list(model(list(image), target).values())).sum()
    return weigh(model(image), target)
