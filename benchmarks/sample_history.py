"""What the history of samples costs: bytes on disk of an epoch, seconds to write it, and its share of a loop.

``python -m benchmarks.sample_history`` prints a JSON object. The disk of a long run is that of its epochs' files, the
ids and the running values, extrapolated from one epoch; the share is the CPU time of the callback's own work, measured
in the same loop as the rest.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import SampleFiles
from assay.callbacks.measures.sample_history import sample_numbers
from assay.runner import DictRunner, TensorBoardLogger

_BEST = 10  # classes that are kept of more than 200
_MOST = 200
_LONG_RUN, _EPOCHS = 1_300_000, 100


def rows_of_epoch(count: int, classes: int, epoch: int) -> SampleRows:
    """Return samples as an epoch has them whose accuracy grows to some 80%."""
    draw = torch.Generator().manual_seed(epoch)
    target = torch.randint(0, classes, (count,), generator=draw)
    numbers, shares = [], []
    for part in target.split(20_000):
        logits = torch.randn(len(part), classes, generator=draw)
        logits[torch.arange(len(part)), part] += 3 + min(epoch, 4) * torch.rand(len(part), generator=draw)
        probabilities = logits.softmax(dim=1)
        columns = [sample_numbers(logits, part), nn.functional.cross_entropy(logits, part, reduction="none")[:, None]]
        best = probabilities.topk(min(_BEST, classes), dim=1)
        numbers.append(torch.cat([*columns, *([best.indices.float()] if classes > _MOST else [])], dim=1))
        shares.append(best.values if classes > _MOST else probabilities)
    names = [f"train/n{number // 1300:08d}/n{number // 1300:08d}_{number:06d}.JPEG" for number in range(count)]
    return SampleRows(np.arange(count), names, torch.cat(numbers).numpy(), torch.cat(shares).half().numpy())


def measure_files(count: int, classes: int, epochs: int = 2) -> dict[str, float]:
    """Return bytes per sample of each kind of file, CPU seconds to write an epoch, and GB of a long run."""
    with tempfile.TemporaryDirectory() as folder:
        files, seconds = SampleFiles(Path(folder) / "train"), []
        for epoch in range(1, epochs + 1):
            rows = rows_of_epoch(count, classes, epoch)
            begun = time.process_time()
            files.add(epoch, rows)
            seconds.append(time.process_time() - begun)
        size = {path.name: path.stat().st_size / count for path in (Path(folder) / "train").iterdir()}
    of_epoch = float(np.mean([size[name] for name in size if name.startswith("epoch-")]))
    # The running values of the epoch before stay beside those of the last one.
    once = size["ids.parquet"] + size["running.parquet"] + size[".running-before.parquet"]
    return {
        "bytes_of_epoch": round(of_epoch, 2),
        "bytes_once": round(once, 2),
        "cpu_seconds_to_write": round(min(seconds[1:]), 3),
        "gb_of_long_run": round((of_epoch * _EPOCHS + once) * _LONG_RUN / 1e9, 3),
    }


class Timed(SampleHistory):
    """Adds up the CPU time of its own work in the loop's thread."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.seconds_ = 0.0

    def observe(self, runner: Any) -> None:
        begun = time.thread_time()
        super().observe(runner)
        self.seconds_ += time.thread_time() - begun

    def report(self, runner: Any, writer: Any) -> None:
        begun = time.thread_time()
        super().report(runner, writer)
        self.seconds_ += time.thread_time() - begun


def measure_share(width: int, count: int = 2048, batch: int = 32, classes: int = 10) -> dict[str, float]:
    """Return milliseconds a step of the callback and of the whole process, and the share of the former."""
    torch.manual_seed(0)
    data = [{"image": image, "target": number % classes, "sample_id": f"{number:06d}"}
            for number, image in enumerate(torch.randn(count, 3, 32, 32))]  # fmt: skip

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [
                nn.Conv2d(3, width, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.ReLU(),
            ]
            self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.layers(image)}

    net = Net()
    history = Timed(thumbnails=False)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.process_time()
        DictRunner().train(
            loaders={key: DataLoader(data, batch, shuffle=key == "train") for key in ("train", "valid")},
            model=net, criterion=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(net.parameters(), lr=0.01),
            callbacks=[history], num_epochs=3, logdir=folder,
            loggers={"tensorboard": TensorBoardLogger(folder, log_every_steps=0)},
        )  # fmt: skip
        whole = time.process_time() - begun
    steps = 3 * 2 * -(-count // batch)
    return {
        "ms_of_step": round(1e3 * whole / steps, 3),
        "ms_of_history": round(1e3 * history.seconds_ / steps, 3),
        "share": round(history.seconds_ / whole, 4),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=200_000, help="of the epoch that is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "files": {str(classes): measure_files(given.samples, classes) for classes in (10, 200, 1000)},
        "share": {f"width {width}": measure_share(width) for width in (32, 128)},
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
