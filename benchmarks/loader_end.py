"""Measure how long the full diagnostics hold up the loop at the end of a training and of a validation loader.

Run ``python -m benchmarks.loader_end``. It is what ``on_loader_end`` of each diagnostic takes on the loop's own thread;
what the thread of the writer draws meanwhile is left out, but for what it holds up. The model and the data are those
of ``benchmarks.overhead``: a ResNet-18, images of 64 px, 10 classes; there are fewer steps, on which this does not
depend. The results go to ``benchmarks/results/loader-end-DEVICE.json``; its rows are ``train`` and ``valid``.

=============== ===================================================================
of a row        content; times in ms, as median, low and high over epochs
=============== ===================================================================
``wall``        of all diagnostics together, by the clock
``thread``      the same, of the CPU time of the loop's thread alone
``parts``       of each diagnostic, by the clock
=============== ===================================================================
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from torch import nn

from assay.callbacks import Metrics, classification_diagnostics
from assay.runner import DictRunner, Engine

from .apart import apart
from .devices import DEVICES, require_device
from .overhead import WORKLOADS
from .results import spread, write
from .subjects.dict_runner import Named
from .workload import Workload

_STEPS = 20


class Ends:
    """Times what callbacks do at the end of loaders.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str):
        self.device = device
        self.ms: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))

    def watch(self, callback: dl.Callback) -> dl.Callback:
        """Have a callback timed."""
        callback.on_loader_end = self._timed(type(callback).__name__, callback.on_loader_end)
        return callback

    def _timed(self, name: str, function: Callable[[dl.IRunner], None]) -> Callable[[dl.IRunner], None]:
        @wraps(function)
        def run(runner: dl.IRunner) -> None:
            began = self._now()
            function(runner)
            wall, thread = (1000 * (end - start) for start, end in zip(began, self._now(), strict=True))
            self.ms[runner.loader_key][name].append((wall, thread))

        return run

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.thread_time()


def measure(workload: dict[str, Any]) -> dict[str, Any]:
    """Train, and return by loader lists with one number per epoch; the first, which loads fonts, is left out.

    Args:
        workload: fields of ``Workload``.
    """
    of = Workload(**workload)
    ends, model = Ends(of.device), Named(of.get_model())
    given = classification_diagnostics("full", num_classes=of.classes)
    with tempfile.TemporaryDirectory() as folder:
        DictRunner(log_every_steps=10).train(
            engine=Engine(of.device, "bf16" if of.half else "fp32"),
            model=model,
            criterion=nn.CrossEntropyLoss(),
            optimizer=of.get_optimizer(model),
            loaders=of.get_loaders(dicts=True),
            callbacks=[one if isinstance(one, Metrics) else ends.watch(one) for one in given],
            num_epochs=of.epochs,
            logdir=str(Path(folder)),
        )
    return {loader: _summarize(by_name) for loader, by_name in ends.ms.items()}


def _summarize(by_name: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    # Of each epoch all diagnostics.
    epochs = list(zip(*by_name.values(), strict=True))[1:]
    wall, thread = ([sum(one[kind] for one in epoch) for epoch in epochs] for kind in (0, 1))
    return {"wall": wall, "thread": thread, "parts": {name: [ms for ms, _ in ms[1:]] for name, ms in by_name.items()}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write ``results/loader-end-DEVICE.json``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loader_end", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--repetitions", type=int, default=5, help="epochs to measure (%(default)s)")
    options = parser.parse_args(arguments)
    if options.repetitions < 1:
        parser.error(f"--repetitions must be at least 1, got {options.repetitions}")
    require_device(parser, options.device)
    few = replace(WORKLOADS[options.device], train_steps=_STEPS, valid_steps=_STEPS)
    workload = asdict(replace(few, epochs=1 + options.repetitions))
    rows = {
        loader: {name: spread(values) for name, values in found.items() if name != "parts"}
        | {"parts": {name: spread(values) for name, values in found["parts"].items()}}
        for loader, found in apart("benchmarks.loader_end:measure", workload=workload).items()
    }
    for loader, row in rows.items():
        print(f"{loader:8}{_line(row['wall'])}; on the loop's thread {_line(row['thread'])}")
        for name, part in sorted(row["parts"].items(), key=lambda item: -item[1]["median"]):
            print(f"    {name:24}{_line(part)}")
    # Others on the machine hold up the clock, and wear out the caches of the thread.
    load = round(os.getloadavg()[0], 1)
    write("loader-end", options.device, {**workload, "load_average": load}, rows)


def _line(of: dict[str, Any]) -> str:
    return f"{of['median']:7.1f} ms ({of['low']:.1f} to {of['high']:.1f})"


if __name__ == "__main__":
    main()
