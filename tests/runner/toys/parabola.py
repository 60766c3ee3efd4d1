"""An experiment whose loss is known: it is least at x = 0.3, and its samples may take their time."""

import time
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from assay.callbacks import UsageError
from assay.runner import AtLeast, AtMost, Experiment, Items


def loss_of(x, kind, epoch):
    """Return the loss on validation; it falls from epoch to epoch, by the same for all."""
    return (x - 0.3) ** 2 + {"near": 0.0, "far": 1.0}[kind] + 0.5 / epoch


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return {"logits": image + self.weight}


@dataclass(kw_only=True)
class Parabola(Experiment):
    """Learns nothing."""

    epochs: int = 3
    check: str = "off"
    lr: float = 1e-9
    x: Annotated[float, AtLeast(-1), AtMost(1)] = 0.0
    """Where on the parabola."""
    kind: Literal["near", "far"] = "near"
    """How high it is."""
    steps: int = 1
    """A number."""
    sleep_s: float = 0.0
    """How long an epoch takes."""
    fails_at: float | None = None
    """Training fails where x is above it."""
    forbidden: bool = False
    """Whether far is refused with steps above 1."""

    def __post_init__(self):
        super().__post_init__()
        if self.forbidden and self.kind == "far" and self.steps > 1:
            raise UsageError("kind far takes no steps above 1.")

    def get_loaders(self):
        return {key: self.make_loader(Items(2, self.make_item)) for key in ("train", "valid")}

    def make_item(self, index):
        from assay.runner import current_epoch

        if self.fails_at is not None and self.x > self.fails_at:
            raise RuntimeError("it fails here")
        time.sleep(self.sleep_s / 4)
        return {"image": torch.tensor([loss_of(self.x, self.kind, max(1, current_epoch() or 1))]), "target": 0}

    def get_model(self):
        return Net()

    def get_criterion(self):
        return mean_output


def mean_output(output, target):
    return output.mean()
