"""Measure what the full diagnostics cost, and how it grows with layers, classes, pixels, k, samples and ranks.

Run ``python -m benchmarks.growth``; ``--only classes,k`` measures some, ``--device cuda`` on a GPU. Each point is a run
of a small model on noise, in processes of its own; ``benchmarks.growth_point`` defines what is measured. The
results go to ``benchmarks/results/growth-DEVICE.json``.

=============== =====================================================================================================
of a point      content; all but ``parts`` and memory as median, low and high over epochs
=============== =====================================================================================================
``step``        ms per step that the diagnostics take from the loop, including their hooks on the gradients
``loop``        ms of all else in a step
``loader_end``  ms that they take from the loop at the end of the loader; ``loader_end_wall``: the same by the clock,
                with what the thread of the writer and other processes hold up
``writer``      ms per epoch of the thread that draws and writes
``parts``       ``begin``, ``step`` and ``end`` of each callback, in ms
``peak_mib``    MiB of memory above a run without diagnostics; none of several ranks
``budget_mib``  what two batches and twice k samples of images and outputs take
=============== =====================================================================================================
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

from .apart import apart
from .devices import DEVICES, require_device
from .growth_point import POINT
from .results import spread, write

_LAYERS = [{"layers": layers, "samples": 320, "batch": 16} for layers in (60, 300, 1000)]
AXES: dict[str, list[dict[str, Any]]] = {
    "layers": _LAYERS,
    "layers-every-step": [{**point, "every_n_steps": 1} for point in _LAYERS],
    "classes": [{"classes": classes} for classes in (2, 10, 1000)],
    "pixels": [{"side": side, "batch": 8, "samples": 160} for side in (64, 256, 1024)],
    "masks": [{"side": side, "batch": 4, "samples": 32, "k": 8, "masks": True} for side in (64, 256, 512)],
    "k": [{"k": k, "side": 128, "batch": 64, "samples": 320} for k in (4, 16, 64)],
    "samples": [{"samples": samples, "side": 8, "batch": 50} for samples in (500, 5_000, 50_000)],
    "ranks": [{"ranks": ranks} for ranks in (1, 2)],
}
_HEAD = f"{'':18}{'':>8}{'step':>12}{'of the loop':>13}{'loader end':>13}{'writer':>11}{'memory':>12}{'budget':>12}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the points that are asked for, print them, and write them to ``results/growth-DEVICE.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--only", default=",".join(AXES), help="names separated by commas, by default %(default)s")
    parser.add_argument("--repetitions", type=int, default=3, help="epochs to measure of each point (%(default)s)")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := [name for name in names if name not in AXES]:
        parser.exit(2, f"--only must be some of {','.join(AXES)}, got {','.join(unknown)}\n")
    if options.repetitions < 1:
        parser.exit(2, f"--repetitions must be at least 1, got {options.repetitions}\n")
    require_device(parser, options.device)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    print(_HEAD, flush=True)
    for name in names:
        for point in AXES[name]:
            if options.device == "cuda" and point.get("ranks", 1) > torch.cuda.device_count():
                print(f"{name}: {point['ranks']} ranks need as many GPUs, left out", flush=True)
                continue
            rows[name].append(measure(point, options.device, options.repetitions))
            print(_line(name, rows[name][-1]), flush=True)
    write("growth", options.device, {"point": POINT, "repetitions": options.repetitions}, rows)


def measure(point: dict[str, Any], device: str, repetitions: int) -> dict[str, Any]:
    """Return a point with all that was measured of it."""
    function = "costs_of_ranks" if "ranks" in point else "costs"
    found = apart(f"benchmarks.growth_point:{function}", device=device, repetitions=repetitions, **point)
    row = {name: values if name == "parts" else spread(values) for name, values in found.items()}
    if "ranks" not in point:
        row["peak_mib"] = apart("benchmarks.growth_point:peak_mib", device=device, **point)
        row["budget_mib"] = budget_mib(**point)
    return {"point": point, **row}


def budget_mib(**point: Any) -> float:
    """Return what two batches and twice k samples take, in MiB: images, outputs and masks."""
    of = {**POINT, **point}
    pixels = of["side"] ** 2
    sample = 4 * 3 * pixels + 4 * of["classes"] * (pixels if of["masks"] else 1) + 8 * (pixels if of["masks"] else 1)
    return float(sample * 2 * (of["batch"] + of["k"]) / 2**20)


def _line(name: str, row: dict[str, Any]) -> str:
    point = row["point"]
    varied = "side" if name in ("pixels", "masks") else name.partition("-")[0]
    step, loop, end, writer = (row[part]["low"] for part in ("step", "loop", "loader_end", "writer"))
    memory = f"{row['peak_mib']:8.1f} MiB{row['budget_mib']:8.1f} MiB" if "peak_mib" in row else ""
    return f"{name:18}{point[varied]:8,}{step:9.2f} ms{step / loop:13.1%}{end:10.1f} ms{writer:8.0f} ms{memory}"


if __name__ == "__main__":
    main()
