"""What all subjects of the comparison train: one model, one data set, the same steps."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory
from torchvision.models.detection import FCOS
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from assay.experiments.detectors import make_detector as make_light_detector


@dataclass(kw_only=True, frozen=True)
class Workload:
    """A training run on noise.

    Args:
        device: ``cpu`` or ``cuda``.
        model: name of a torchvision network, ``unet``, or ``fcos_BACKBONE``, a detector of torchvision.
        side: of the images, in pixels.
        batch_size: of both loaders.
        classes: number of them.
        train_steps: training batches per epoch.
        valid_steps: validation batches per epoch.
        epochs: how many.
        half: train in bf16.
        channels_last: memory layout of model and images.
        masks: whether every pixel has a class.
        boxes: whether the targets are boxes.
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
    boxes: bool = False

    def get_model(self) -> nn.Module:
        """Return the network, the same weights each time, not yet on the device."""
        torch.manual_seed(0)
        model = self._make_model()
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def _make_model(self) -> nn.Module:
        if self.boxes:
            return make_detector(self.model.removeprefix("fcos_"), self.classes, self.side)
        made: nn.Module = (UNet if self.model == "unet" else getattr(torchvision.models, self.model))(
            num_classes=self.classes
        )
        return made

    def get_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer that all use."""
        lr = 0.001 if self.boxes else 0.01
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, fused=self.device == "cuda")

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
                collate_fn=as_it_is if on_gpu else stack_images if self.boxes else None,
            )
            for key, count in batches.items()
        }

    def autocast(self) -> torch.autocast:
        """Return the precision of the forward pass."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.half)


class Noise(Dataset[Any]):
    """Images that are there already, so that no time goes into making them: 8 batches, over and over."""

    def __init__(self, workload: Workload, count: int, *, dicts: bool):
        # The same for runs of any length, so that one process makes them once.
        self.images, self.targets = make_noise(replace(workload, train_steps=0, valid_steps=0, epochs=0))
        self.count, self.dicts = count, dicts

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        image, target = self.images[index % len(self.images)], self.targets[index % len(self.images)]
        return {"image": image, "target": target, "sample_id": f"noise-{index:05d}"} if self.dicts else (image, target)


@lru_cache(maxsize=1)
def make_noise(workload: Workload) -> tuple[Tensor, Any]:
    """Return images and targets; for a GPU in pinned memory."""
    generator = torch.Generator().manual_seed(0)
    side, held = workload.side, 8 * workload.batch_size
    images = torch.randn(held, 3, side, side, generator=generator)
    if workload.channels_last:
        images = images.to(memory_format=torch.channels_last)
    targets: Any = torch.arange(held) % workload.classes
    if workload.masks:
        targets = torch.randint(workload.classes, (held, side, side), generator=generator)
    elif workload.boxes:
        targets = noise_boxes(held, workload, generator)
    return (pin_memory(images), pin_memory(targets)) if workload.device == "cuda" else (images, targets)


class ReadyBatches(Noise):
    """Whole batches in pinned memory, so that of loading only the copy to the GPU is left, and the GPU is busy."""

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


def stack_images(items: list[Any]) -> Any:
    """Return a batch of images, with a list of the targets, which hold unlike numbers of boxes."""
    if isinstance(items[0], dict):
        images, targets, ids = ([item[name] for item in items] for name in ("image", "target", "sample_id"))
        return {"image": torch.stack(images), "target": targets, "sample_id": ids}
    images, targets = zip(*items, strict=True)
    return [torch.stack(images), list(targets)]


def noise_boxes(count: int, workload: Workload, generator: torch.Generator) -> list[dict[str, Tensor]]:
    """Return the boxes of each image: one to twelve, of an eighth to a half of its side; class 0 is the background."""
    side, found = workload.side, []
    for index in range(count):
        shape = (1 + index % 12, 2)
        corner = torch.rand(shape, generator=generator) * side / 2
        extent = side / 8 + torch.rand(shape, generator=generator) * side * 3 / 8
        labels = torch.randint(1, workload.classes, shape[:1], generator=generator)
        found.append({"boxes": torch.cat([corner, corner + extent], dim=1), "labels": labels})
    return found


def make_detector(backbone: str, classes: int, side: int) -> nn.Module:
    """Return an FCOS with fresh weights that delivers the 100 best boxes of each image, however poor.

    Args:
        backbone: a residual network of torchvision, or ``light``, a tiny one of two classes.
        classes: number of them, with the background.
        side: of the images, in pixels.
    """
    if backbone == "light":
        return make_light_detector("fcos", backbone, image_size=side, channels=32, num_classes=2).net
    pyramid = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    return FCOS(pyramid, num_classes=classes, min_size=side, max_size=side, score_thresh=0.0)


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
    """Measures a run from its first training step to its end: all steps, loader ends and what is left to write.

    ``step_ms`` is the time from one training step's forward pass to that of the next, without waiting for the device
    between the first and the last.
    """

    def __init__(self, device: str):
        self.device = device
        self.began: tuple[float, float] | None = None
        self.steps: list[float] = []

    def begin(self, model: nn.Module, given: Any) -> None:
        """Begin, if not begun: a forward hook of the model, so that no framework's set-up counts."""
        if self.began is None:
            self.began = self._now()
        if model.training:
            self.steps.append(time.perf_counter())

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
        step_ms = 1000 * (self.steps[-1] - self.steps[0]) / max(1, len(self.steps) - 1)
        result.update(seconds=seconds, cpu_seconds=cpu_seconds, peak_mib=peak, step_ms=step_ms)

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def weigh(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss that all use."""
    return nn.functional.cross_entropy(output, target)
