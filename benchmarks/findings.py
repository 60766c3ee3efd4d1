"""Measure how long the quick check takes before the first step, on a data set of 50,000 images.

Run ``python -m benchmarks.findings``. The images are JPEG files of 224 px, decoded and normalized as usual; there are
200 of them, which stand for 50,000. Each repetition is a process of its own, whose times are those of the callback
``Findings``: at the start of the run, and in its first steps. Wanted are 2 s in all, or 2% of the first epoch. The
results go to ``benchmarks/results/findings-DEVICE.json``.

=============== =====================================================================================================
of a row        content; times in s, as median, low and high over repetitions
=============== =====================================================================================================
``start``       of the callback's start: samples read, copies of model and loss tried out, rules
``steps``       of the callback in the first 30 steps
``share``       both over the time of a first epoch, as 30 steps of it tell
=============== =====================================================================================================
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Findings
from assay.runner import DictRunner, Engine

from .apart import apart
from .devices import DEVICES, require_device
from .results import spread, write
from .subjects.dict_runner import Named

SAMPLES, FILES, SIDE, CLASSES = 50_000, 200, 224, 10
MODELS = ("resnet18", "vit_tiny_patch16_224")
_STEPS, _BATCH = 40, 16
_LIMIT_S, _LIMIT_SHARE = 2.0, 0.02


class Photographs(Dataset[dict[str, Any]]):
    """So many images of a folder's JPEG files, whose class is their number.

    Args:
        folder: of the files.
        first: number of the first sample.
        count: of samples.
    """

    def __init__(self, folder: Path, first: int, count: int):
        self.files = sorted(folder.glob("*.jpg"))
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = self.first + index
        image = cv2.cvtColor(cv2.imread(str(self.files[number % FILES])), cv2.COLOR_BGR2RGB)
        # No two samples are alike, as they would not be in a real data set.
        image[0, 0] = number % 256, number // 256 % 256, 0
        pixels = (image.astype(np.float32) / 255 - 0.45) / 0.225
        target = number % FILES % CLASSES
        return {"image": torch.from_numpy(pixels.transpose(2, 0, 1).copy()), "target": target, "sample_id": number}


def write_photographs(folder: Path) -> None:
    """Write JPEG files of blurred noise in the colour of their class, of the size of usual photographs."""
    draw = np.random.default_rng(0)
    for number in range(FILES):
        noise = cv2.GaussianBlur(draw.normal(0, 1, (SIDE, SIDE, 3)), (0, 0), 4)
        hue = np.array([number % CLASSES * 18, 160, 128], np.uint8).reshape(1, 1, 3)
        image = np.clip(cv2.cvtColor(hue, cv2.COLOR_HSV2BGR) + noise * 400, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.jpg"), image)


class Seconds:
    """Adds up the seconds that some methods of a callback take, by name."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {}

    def watch(self, callback: Any, methods: Sequence[str], name: str) -> None:
        """Have methods timed under a name."""
        for method in methods:
            setattr(callback, method, partial(self._timed, name, getattr(callback, method)))

    def _timed(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            self.of[name] = self.of.get(name, 0.0) + time.perf_counter() - began


class _Steps(DictRunner):
    """Stops after some steps, and keeps when they began and ended."""

    began = ended = 0.0

    def handle_batch(self, batch: Any) -> None:
        self.began = self.began or time.perf_counter()
        super().handle_batch(batch)
        if self.is_train_loader:
            self.ended = time.perf_counter()
        self.need_early_stop = self.loader_batch_step >= _STEPS


def measure(model: str, device: str) -> dict[str, float]:
    """Train a few steps with a quick check, and return its seconds, and their share of a whole epoch."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    net = Named(timm.create_model(model, num_classes=CLASSES))
    findings, seconds, runner = Findings(stop=False), Seconds(), _Steps()
    seconds.watch(findings, ["on_experiment_start"], "start")
    seconds.watch(findings, ["on_loader_start", "on_batch_start", "on_batch_end", "on_loader_end"], "steps")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photographs(folder)
        train, valid = Photographs(folder, 0, SAMPLES), Photographs(folder, SAMPLES, SAMPLES // 10)
        runner.train(
            engine=Engine(device),
            model=net,
            criterion=nn.CrossEntropyLoss(),
            optimizer=torch.optim.AdamW(net.parameters(), 1e-4),
            loaders={"train": DataLoader(train, _BATCH, shuffle=True), "valid": DataLoader(valid, _BATCH)},
            callbacks=[findings],
            num_epochs=1,
        )
    epoch = (runner.ended - runner.began) / _STEPS * SAMPLES / _BATCH
    taken = seconds.of["start"] + seconds.of["steps"]
    return {"start": seconds.of["start"], "steps": seconds.of["steps"], "share": taken / epoch}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write ``results/findings-DEVICE.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.findings", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--repetitions", type=int, default=3, help="processes to measure (%(default)s)")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    require_device(parser, options.device)
    rows = {}
    for model in MODELS:
        found = [
            apart("benchmarks.findings:measure", model=model, device=options.device) for _ in range(options.repetitions)
        ]
        rows[model] = {name: spread([one[name] for one in found]) for name in found[0]}
        start, steps, part = (rows[model][name]["median"] for name in ("start", "steps", "share"))
        print(
            f"{model:24}{start:.2f} s before and {steps:.2f} s in the first steps, {part:.2%} of the epoch; "
            f"{_LIMIT_S:g} s or {_LIMIT_SHARE:.0%} are wanted"
        )
    settings = {"samples": SAMPLES, "side": SIDE, "batch": _BATCH, "load_average": round(os.getloadavg()[0], 1)}
    write("findings", options.device, settings, rows)


if __name__ == "__main__":
    main()
