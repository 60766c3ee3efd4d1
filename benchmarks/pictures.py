"""What all pictures of one loader cost: CPU time of drawing and encoding, tag by tag.

Run ``python benchmarks/pictures.py``; it trains ResNet-18 (62 parameters) for two epochs on noise of ten classes with
the full diagnostics of a classifier. The second epoch is shown, as the first one loads fonts.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from assay.callbacks import classification_diagnostics
from assay.callbacks.tensorboard.writer import Writer
from assay.runner import DictRunner, Engine, TensorBoardLogger


class TimedWriter(Writer):
    """A writer that adds up the CPU time of its thread: of each drawing, of all pictures, of all else."""

    def __init__(self, sink: Any):
        super().__init__(sink)
        self.seconds: dict[tuple[int, str], float] = defaultdict(float)
        self.step, self.kind = 0, ""

    def image(self, tag: str, draw: Callable[[], np.ndarray], step: int) -> None:
        self.step, self.kind = step, "ALL PICTURES, drawn and encoded"
        super().image(tag, lambda: self._timed((step, tag), draw), step)
        self.kind = "all other work of the thread"

    def submit(self, work: Callable[[Any], Any]) -> None:
        key = (self.step, self.kind)
        super().submit(lambda sink: self._timed(key, lambda: work(sink)))

    def _timed(self, key: tuple[int, str], work: Callable[[], Any]) -> Any:
        began = time.thread_time()
        try:
            return work()
        finally:
            self.seconds[key] += time.thread_time() - began


class TimedLogger(TensorBoardLogger):
    """Hands out timed writers."""

    def get_writer(self, loader_key: str) -> Writer:
        if loader_key not in self.writers_:
            self.writers_[loader_key] = TimedWriter(SummaryWriter(f"{self.folder}/{loader_key}"))
        return self.writers_[loader_key]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = torchvision.models.resnet18(num_classes=10)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(image)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=64, help="side of the images")
    parser.add_argument("--samples", type=int, default=128, help="of the loader")
    options = parser.parse_args()
    torch.manual_seed(0)
    noise = torch.randn(options.samples, 3, options.size, options.size)
    items = [{"image": image, "target": i % 10, "sample_id": f"noise-{i:04d}"} for i, image in enumerate(noise)]
    model = Net()
    with tempfile.TemporaryDirectory() as folder:
        logger = TimedLogger(folder)
        DictRunner().train(
            engine=Engine("cpu"),
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
            loaders={"train": DataLoader(items, batch_size=32)},
            callbacks=classification_diagnostics(num_classes=10, gradients_every_n_steps=1),
            loggers={"tensorboard": logger},
            num_epochs=2,
        )
    print(f"{torch.get_num_threads()} threads, images of {options.size} x {options.size}; CPU ms of the second epoch:")
    for (step, tag), seconds in sorted(logger.writers_["train"].seconds.items(), key=lambda entry: -entry[1]):
        if step == 2:
            print(f"{seconds * 1000:8.1f}  {tag}")


if __name__ == "__main__":
    main()
