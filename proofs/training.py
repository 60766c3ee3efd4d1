"""Train a model on planted evidence until it is right."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from .planted import Planted, plant

RIGHT = 0.98  # the accuracy that two validations in a row have to reach
MOST_STEPS = 1500

_BATCH, _EVERY, _WARM_UP = 16, 50, 50
_VALIDATION = 256


@dataclass(frozen=True)
class Trained:
    """A model in eval mode, and its accuracy on images that it was not trained on; for masks, on the patches."""

    model: nn.Module
    accuracy: float
    steps: int


def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the output of a model; torchvision's segmentation models return a dict."""
    found = model(images)
    output: Tensor = found["out"] if isinstance(found, dict) else found
    return output


def train(make: Callable[[], nn.Module], rate: float, kept: Path) -> Trained:
    """Train until two validations in a row exceed ``RIGHT``, or read the weights from ``kept`` if they are there."""
    torch.manual_seed(0)
    model = make()
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["weights"])
        return Trained(model.eval(), state["accuracy"], state["steps"])
    trained = _train(model, rate)
    kept.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weights": model.state_dict(), "accuracy": trained.accuracy, "steps": trained.steps}, kept)
    return trained


def _train(model: nn.Module, rate: float) -> Trained:
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / _WARM_UP))
    chance, validation = torch.Generator().manual_seed(1), plant(_VALIDATION, torch.Generator().manual_seed(2))
    # Two validations in a row: one alone may pass by luck, while the weights still move.
    before = accuracy = 0.0
    for step in range(1, MOST_STEPS + 1):
        _step(model.train(), optimizer, plant(_BATCH, chance))
        warm_up.step()
        if step % _EVERY == 0:
            before, accuracy = accuracy, measure(model.eval(), validation)
            if min(before, accuracy) > RIGHT:
                break
    return Trained(model.eval(), accuracy, step)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Planted) -> None:
    output = logits(model, batch.images)
    loss = functional.cross_entropy(output, batch.masks if output.ndim == 4 else batch.labels)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def measure(model: nn.Module, data: Planted) -> float:
    """Return the accuracy; for masks, over the pixels of the patches."""
    # Noise around the patches is most of a mask: counting it, a model that finds no patch would be right.
    predicted = logits(model, data.images).argmax(dim=1)
    if predicted.ndim == 1:
        return float((predicted == data.labels).float().mean())
    return float((predicted == data.masks)[data.masks > 0].float().mean())
