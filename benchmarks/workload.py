"""What all subjects of the comparison train: one model, one data set, the same steps."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
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
        model: name of a torchvision network, or ``unet``.
        side: of the images, in pixels.
        batch_size: of both loaders.
        classes: number of them.
        train_steps: training batches per epoch.
        valid_steps: validation batches per epoch.
        epochs: how many.
        half: train in bf16.
        channels_last: memory layout of model and images.
        masks: whether every pixel has a class.
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
    masks: bool = False

    def get_model(self) -> nn.Module:
        """Return the network, the same weights each time, not yet on the device."""
        torch.manual_seed(0)
        make = UNet if self.model == "unet" else getattr(torchvision.models, self.model)
        model: nn.Module = make(num_classes=self.classes)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def get_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that all use."""
        return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=self.device == "cuda")

    def get_loaders(self, *, dicts: bool = False) -> dict[str, DataLoader[Any]]:
        """Return ``train`` and ``valid``; items are pairs of image and target, or dicts with a ``sample_id``."""
        batches = {"train": self.train_steps, "valid": self.valid_steps}
        on_gpu = self.device == "cuda"
        return {
            key: DataLoader(
                (ReadyBatches if on_gpu else Noise)(self, count * self.batch_size, dicts=dicts),
                batch_size=self.batch_size,
                shuffle=key == "train",
                pin_memory=on_gpu,
                collate_fn=as_it_is if on_gpu else None,
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
        self.targets = torch.arange(held) % workload.classes
        if workload.masks:
            self.targets = torch.randint(workload.classes, (held, side, side), generator=generator)
        self.count, self.dicts = count, dicts

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        image, target = self.images[index % len(self.images)], self.targets[index % len(self.images)]
        return {"image": image, "target": target, "sample_id": f"noise-{index:05d}"} if self.dicts else (image, target)


class ReadyBatches(Noise):
    """Whole batches in pinned memory, so that of loading only the copy to the GPU is left, and the GPU is busy."""

    def __init__(self, workload: Workload, count: int, *, dicts: bool):
        super().__init__(workload, count, dicts=dicts)
        self.images, self.targets = self.images.pin_memory(), self.targets.pin_memory()

    def __getitems__(self, indices: list[int]) -> Any:
        """Return a batch as large as was asked for, not just those samples."""
        first = indices[0] % (len(self.images) - len(indices) + 1)
        image, target = (part[first : first + len(indices)] for part in (self.images, self.targets))
        if not self.dicts:
            return [image, target]
        return {"image": image, "target": target, "sample_id": [f"noise-{index:05d}" for index in indices]}


def as_it_is(batch: Any) -> Any:
    """Return a batch that is one already."""
    return batch


class UNet(nn.Module):
    """A U-Net of five levels: O. Ronneberger et al., "U-Net", 2015, with BatchNorm and padding.

    Args:
        num_classes: channels of the output.
        width: channels of the first level, which double from level to level.
    """

    def __init__(self, num_classes: int, width: int = 32):
        super().__init__()
        widths = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(_two_layers(before, after) for before, after in pairwise([3, *widths]))
        self.up = nn.ModuleList(_two_layers(deep + skip, skip) for skip, deep in pairwise(widths))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = []
        for level, layers in enumerate(self.down):
            image = layers(nn.functional.max_pool2d(image, 2) if level else image)
            maps.append(image)
        deep = maps.pop()
        for layers in reversed(self.up):
            deep = layers(torch.cat([nn.functional.interpolate(deep, scale_factor=2.0), maps.pop()], dim=1))
        return self.head(deep)  # type: ignore[no-any-return]


def _two_layers(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


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
        """Measure the block from the first forward pass of ``model`` on; the result is filled in after it."""
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
