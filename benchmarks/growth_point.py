"""One point of ``benchmarks.growth``: what the full diagnostics of one small run cost.

Times are those of the diagnostics' own code, not a difference of two runs: on a CPU every event of a callback and every
hook on the gradients runs to its end on the loop's thread, so the CPU time of that thread within them, with one thread
for torch's operations, is all that they take from the loop, and another process on the machine does not change it. All
CPU time of the process outside the loop's thread is that of the writer's. On a GPU, where the queue goes on behind the
host, a step is the difference of two runs, with diagnostics and without, between two waits for the queue.

Memory is the peak of the second epoch with diagnostics above that without, in one process: on a CPU of what is
resident, with an allocator that gives back at once what is freed; on a GPU of what torch has allocated.
"""

import ctypes
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from catalyst import dl
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Metrics, classification_diagnostics, segmentation_diagnostics
from assay.runner import Engine, TensorBoardLogger

from .growth_meter import Meter, MeteredRunner

POINT: dict[str, Any] = {
    "layers": 20, "classes": 10, "side": 32, "k": 16, "samples": 640, "batch": 32, "every_n_steps": 10, "masks": False,
}  # fmt: skip

_WIDTH = 256
_RESULT = "of rank 0: "
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


def costs(device: str, repetitions: int, **point: Any) -> dict[str, Any]:
    """Return what each measured epoch of a run costs; an epoch before them, which loads fonts, is left out.

    Args:
        device: ``cpu`` or ``cuda``.
        repetitions: number of epochs to measure.
        point: what differs from ``POINT``.

    Returns:
        Lists with one number per epoch, in ms: ``step`` (the diagnostics, per step), ``loop`` (all else in a step),
        ``loader_end`` (the diagnostics at the end of the loader), ``loader_end_wall`` (the same by the clock) and
        ``writer`` (all other threads); and ``parts``: by callback, in ms, ``begin`` (of a loader), ``step`` and
        ``end``, the smallest of all epochs.
    """
    torch.set_num_threads(1)
    logging.getLogger("assay").setLevel(logging.ERROR)  # what noise makes of itself is no news
    meter = _train(device, "full", 1 + repetitions, **point)
    epochs = meter.epochs[1:]
    if device == "cuda":
        bare = _train(device, "off", 1 + repetitions, **point).epochs[1:]
        for epoch, other in zip(epochs, bare, strict=True):
            epoch["step"], epoch["loop"] = epoch["loop"] - other["loop"], other["loop"]
    found = {name: [epoch[name] for epoch in epochs] for name in epochs[0] if name not in ("peak", "parts")}
    names = {name for epoch in epochs for name in epoch["parts"]}
    parts = {name: _smallest([epoch["parts"][name] for epoch in epochs]) for name in sorted(names)}
    return {**found, "parts": parts}


def peak_mib(device: str, **point: Any) -> float:
    """Return the peak of memory with diagnostics above that without, in MiB; the arguments are those of ``costs``."""
    torch.set_num_threads(1)
    logging.getLogger("assay").setLevel(logging.ERROR)
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if set_option is not None:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)  # the runner leaves malloc as it is then
        set_option(_MMAP_THRESHOLD, 2**16)
    without = _train(device, "off", 2, **point).epochs[1]["peak"]
    return float(_train(device, "full", 2, **point).epochs[1]["peak"] - without)


def costs_of_ranks(ranks: int, device: str, repetitions: int, **point: Any) -> Any:
    """Return ``costs`` of the first of several ranks, which ``torchrun`` starts."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    arguments = json.dumps({"device": device, "repetitions": repetitions, **point})
    done = subprocess.run(
        [*command, "-m", "benchmarks.growth_point", arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = done.stdout.splitlines()
    found = [line.removeprefix(_RESULT) for line in lines if line.startswith(_RESULT)]
    if done.returncode or not found:
        raise RuntimeError("\n".join([f"torchrun ended with {done.returncode}:", *lines[-40:]]))
    return json.loads(found[0])


class Noise(Dataset[dict[str, Any]]):
    """Images of noise, cut from one larger image, so that the data takes no memory of its own."""

    def __init__(self, samples: int, side: int, classes: int, masks: bool):
        chance = torch.Generator().manual_seed(0)
        self.samples, self.side, self.classes, self.masks = samples, side, classes, masks
        self.noise = torch.rand(3, side + 8, side + 8, generator=chance)
        self.numbers = torch.randint(0, classes, (side + 8, side + 8), generator=chance)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows, columns = slice(index % 8, index % 8 + self.side), slice(index // 8 % 8, index // 8 % 8 + self.side)
        target = self.numbers[rows, columns] if self.masks else index % self.classes
        return {"image": self.noise[:, rows, columns], "target": target, "sample_id": f"noise-{index:06d}"}


class Net(nn.Module):
    """A model of as many parameters, weights and biases, as asked for: of images, or with one layer, of every pixel."""

    def __init__(self, layers: int, classes: int, masks: bool):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=1 if masks else 4, padding=1)
        self.body = nn.ModuleList([nn.Linear(_WIDTH, _WIDTH) for _ in range(0 if masks else layers // 2 - 2)])
        self.head = nn.Conv2d(16, classes, 1) if masks else nn.Linear(_WIDTH, classes)
        self.masks = masks

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = F.relu(self.stem(image))
        if not self.masks:
            features = F.adaptive_avg_pool2d(features, 4).flatten(1)
        for layer in self.body:
            features = features + 0.1 * F.relu(layer(features))
        return {"logits": self.head(features)}


def _train(device: str, level: str, epochs: int, **changes: Any) -> Meter:
    point = {**POINT, **changes}
    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    data = Noise(point["samples"], point["side"], point["classes"], point["masks"])
    model, meter, runner = Net(point["layers"], point["classes"], point["masks"]), Meter(device), MeteredRunner()
    runner.meter = meter
    with tempfile.TemporaryDirectory() as folder:
        runner.train(
            engine=Engine(device),
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=1e-4),
            loaders={"train": DataLoader(data, batch_size=point["batch"])},
            callbacks=[meter, *map(meter.watch, _added(level, point)), *_bare(point)],
            loggers={"tensorboard": TensorBoardLogger(Path(folder), log_every_steps=0)},
            num_epochs=epochs,
        )
    return meter


def _diagnostics(level: str, point: dict[str, Any]) -> list[dl.Callback]:
    build = segmentation_diagnostics if point["masks"] else classification_diagnostics
    callbacks: list[dl.Callback] = build(
        level, num_classes=point["classes"], k_samples=point["k"], gradients_every_n_steps=point["every_n_steps"]
    )
    for callback in callbacks:
        if hasattr(callback, "sink"):
            callback.sink = partial(logging.getLogger("benchmarks").debug, "%s")
    return callbacks


def _bare(point: dict[str, Any]) -> list[dl.Callback]:
    return _diagnostics("off", point)


def _added(level: str, point: dict[str, Any]) -> Sequence[dl.Callback]:
    return [callback for callback in _diagnostics(level, point) if not isinstance(callback, Metrics)]


def _smallest(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    return {part: min(epoch[part] for epoch in epochs) for part in epochs[0]}


def main() -> None:
    found = costs(**json.loads(sys.argv[1]))
    if os.environ.get("RANK", "0") == "0":
        print(f"{_RESULT}{json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
