"""What all subjects of the comparison train: one model, one data set, the same steps."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


@dataclass(kw_only=True, frozen=True)
class Workload:
    """A training run on noise.

    Args:
        device: ``cpu`` or ``cuda``.
        model: name of a torchvision network.
        side: of the images, in pixels.
        batch_size: of both loaders.
        classes: number of them.
        train_steps: batches of an epoch.
        valid_steps: likewise.
        epochs: how many.
        half: train in bf16.
        channels_last: memory layout of model and images.
    """

    device: str = "cpu"
    model: str = "resnet18"
    side: int = 64
    batch_size: int = 32
    classes: int = 10
    train_steps: int = 100
    valid_steps: int = 50
    epochs: int = 2
    half: bool = False
    channels_last: bool = False

    def get_model(self) -> nn.Module:
        """Return the network, the same weights each time, not yet on the device."""
        torch.manual_seed(0)
        model: nn.Module = getattr(torchvision.models, self.model)(num_classes=self.classes)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def get_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that all use."""
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=self.device == "cuda")

    def get_loaders(self, *, dicts: bool = False) -> dict[str, DataLoader[Any]]:
        """Return ``train`` and ``valid``; items are pairs of image and target, or dicts with a ``sample_id``."""
        batches = {"train": self.train_steps, "valid": self.valid_steps}
        return {
            key: DataLoader(
                Noise(self, count * self.batch_size, dicts=dicts),
                batch_size=self.batch_size,
                shuffle=key == "train",
                pin_memory=self.device == "cuda",
            )
            for key, count in batches.items()
        }

    def autocast(self) -> torch.autocast:
        """Return the precision of the forward pass."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half)


class Noise(Dataset[Any]):
    """Images that are there already, so that no time goes into making them: 8 batches, over and over."""

    def __init__(self, workload: Workload, count: int, *, dicts: bool):
        generator = torch.Generator().manual_seed(0)
        side, held = workload.side, min(count, 8 * workload.batch_size)
        self.images = torch.randn(held, 3, side, side, generator=generator)
        if workload.channels_last:
            self.images = self.images.to(memory_format=torch.channels_last)
        self.classes, self.count, self.dicts = workload.classes, count, dicts

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        image, target = self.images[index % len(self.images)], index % self.classes
        return {"image": image, "target": target, "sample_id": f"noise-{index:05d}"} if self.dicts else (image, target)


class Stopwatch:
    """Measures a run from its first training step to its end: all steps, loader ends and what is left to write."""

    def __init__(self, device: str):
        self.device = device
        self.began: tuple[float, float] | None = None

    def begin(self, *_: Any) -> None:
        """Begin, if not begun: a forward hook of the model, so that no framework's set-up counts."""
        if self.began is None:
            self.began = self._now()

    @contextmanager
    def running(self, model: nn.Module) -> Iterator[dict[str, float]]:
        """Measure the block from the first forward pass of ``model`` on; the result is filled in behind it."""
        result: dict[str, float] = {}
        handle = model.register_forward_pre_hook(self.begin)
        yield result
        handle.remove()
        if self.began is None:
            raise RuntimeError("the model was never called")
        seconds, cpu_seconds = (end - start for start, end in zip(self.began, self._now(), strict=True))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self.device == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**20
        result.update(seconds=seconds, cpu_seconds=cpu_seconds, peak_mib=peak)

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def weigh(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss that all use."""
    return nn.functional.cross_entropy(output, target)
