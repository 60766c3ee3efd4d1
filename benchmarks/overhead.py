"""Measure what diagnostics cost: the time of whole runs over that of a bare loop, side by side with other libraries.

Each row is trained in processes of its own, in turns with the others. In each process a run of a few steps comes first,
which loads fonts and libraries; then the run that counts, from its first forward pass to the end of its last write:
training, validation, pictures, logs and checkpoints. The bare loop does none of these. A ratio is that to the bare
loop of the same turn; shown are medians over the turns.

What one diagnostic takes is less than two runs differ by. So the rows of the set ``alone`` add one to assay without
any, and ``OverheadBudget`` meters it: the time of its events, and on a CPU that of its drawing, over that of the loop.
"""

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .apart import apart
from .devices import DEVICES, require_device
from .results import spread, write
from .workload import Stopwatch, Workload

WORKLOADS = {
    "cpu": Workload(),
    "cuda": Workload(
        device="cuda", model="resnet50", side=224, batch_size=64, half=True, channels_last=True,
        train_steps=200, valid_steps=100,
    ),
    "cpu-masks": Workload(model="unet", masks=True, batch_size=4, train_steps=20, valid_steps=10),
    "cuda-masks": Workload(
        device="cuda", model="unet", masks=True, side=512, batch_size=8, half=True, channels_last=True,
        train_steps=200, valid_steps=100,
    ),
}  # fmt: skip
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "bare loop": ("bare", {}),
    "assay, off": ("dict_runner", {"level": "off"}),
    "assay, light": ("dict_runner", {"level": "light"}),
    "assay, full": ("dict_runner", {"level": "full"}),
    "assay, full, gradients every step": ("dict_runner", {"level": "full", "every_n_steps": 1}),
    "Catalyst": ("catalyst", {}),
    "Catalyst with its metrics": ("catalyst", {"diagnostics": True}),
    "Lightning": ("lightning", {}),
    "Lightning with diagnostics": ("lightning", {"diagnostics": True}),
    "Ignite": ("ignite", {}),
    "Ignite with diagnostics": ("ignite", {"diagnostics": True}),
}
ALONE = (
    "BestWorstBatches", "ConfusionMatrix", "ClassificationReport", "OptimizerMonitor", "TimeMonitor",
    "BestWorstSamples", "GradCAM", "FixedSamples", "RandomSamples", "PredictionDistribution", "PRCurves",
    "GradientStats", "AugmentationPreview", "DataOverview", "SampleHistory", "Curves",
)  # fmt: skip
# What is measured and written together.
SETS = {"overhead": ROWS, "alone": {name: ("dict_runner", {"alone": name}) for name in ALONE}}


def measure(subject: str, workload: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Train once and return seconds, seconds of the CPU, peak memory in MiB, and what the subject adds."""
    train = importlib.import_module(f"benchmarks.subjects.{subject}").train
    full = Workload(**workload)
    with tempfile.TemporaryDirectory() as folder:
        # The first run loads fonts and libraries, which a user pays for once and not per step.
        first = replace(full, train_steps=3, valid_steps=2, epochs=1)
        train(first, Path(folder, "first"), first.get_model(), **options)
        if full.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        model = full.get_model()
        with Stopwatch(full.device).running(model) as result:
            more = train(full, Path(folder, "run"), model, **options)
    return {**result, **(more or {})}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows of a set, print them, and write them to ``results/SET-DEVICE.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--masks", action="store_true", help="train a U-Net on masks in place of a classifier")
    parser.add_argument("--set", choices=SETS, default="overhead", help="rows to measure (%(default)s)")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these of the set; written with --write alone")
    parser.add_argument("--write", action="store_true", help="write the results, also where --rows leaves some out")
    parser.add_argument("--repetitions", type=int, default=3, help="turns (%(default)s)")
    parser.add_argument(
        "--epochs", type=int, help="of a run; by default 1, of the set alone 2, the last of which counts"
    )
    options = parser.parse_args(arguments)
    require_device(parser, options.device)
    kind = f"{options.device}-masks" if options.masks else options.device
    workload = replace(WORKLOADS[kind], epochs=options.epochs or {"overhead": 1, "alone": 2}[options.set])
    rows = SETS[options.set]
    if unknown := [name for name in options.rows or () if name not in rows]:
        parser.error(f"--rows must be of {', '.join(map(repr, rows))}, got {unknown[0]!r}")
    names = list(options.rows or rows)
    if options.set == "overhead" and "bare loop" not in names:
        names.insert(0, "bare loop")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(options.repetitions):
        # Back and forth, so that a machine that grows slower meanwhile treats first and last rows alike.
        for name in names if turn % 2 == 0 else reversed(names):
            subject, wanted = rows[name]
            arguments_of = {"subject": subject, "workload": asdict(workload), "options": wanted}
            found[name].append(apart("benchmarks.overhead:measure", **arguments_of))
            latest = found[name][-1]
            print(f"  {turn + 1}: {name}: {latest['seconds']:.2f} s, {latest['cpu_seconds']:.2f} s CPU", flush=True)
    results = summarize(found)
    for name, row in results.items():
        print(_line(name, row))
    if options.write or not options.rows:
        name = f"{options.set}-masks" if options.masks else options.set
        write(name, options.device, {**asdict(workload), "repetitions": options.repetitions}, results)


def summarize(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return, by row, the spread of each figure and of its ratio to the bare loop of the same turn."""
    rows: dict[str, Any] = {}
    bare = found.get("bare loop")  # the set ``alone`` has none
    for name, runs in found.items():
        row = {key: spread([value for run in runs for value in np.atleast_1d(run[key]).tolist()]) for key in runs[0]}
        for kind, ratio in (("seconds", "ratio"), ("cpu_seconds", "cpu_ratio")):
            if bare is not None:
                row[ratio] = spread([run[kind] / base[kind] for run, base in zip(runs, bare, strict=True)])
        rows[name] = row
    return rows


def _line(name: str, row: dict[str, Any]) -> str:
    if "share" in row:
        share = row["share"]
        return f"{name:24} {share['median']:6.2%} ({share['low']:.2%} to {share['high']:.2%}) of the loop's time"
    ratio, end = row["ratio"], row.get("loader_end_ms")
    more = "" if end is None else f"; end of a loader {end['median']:.0f} ms, at most {end['high']:.0f}"
    return (
        f"{name:36} {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), of the processor "
        f"{row['cpu_ratio']['median']:.3f}; {row['seconds']['median']:.1f} s{more}"
    )


if __name__ == "__main__":
    sys.exit(main())
