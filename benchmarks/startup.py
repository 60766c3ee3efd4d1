"""Measure how long a user waits for the help, the list of experiments, and the first training step.

Each command runs in a process of its own, from the start of Python to its end, or to the first step of the optimizer.
A round that does not count comes first: it fills the disk cache, and compiles what has no bytecode yet.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import results
from benchmarks.apart import ROOT

LIMITS_S = {"help": 0.5, "list": 1.0, "first_step": 6.0}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(arguments)
    rows = measure(options.repetitions)
    for name, row in rows.items():
        wall, cpu = row["wall_s"], row["cpu_s"]
        print(
            f"{name:12} {wall['median']:.2f} s ({wall['low']:.2f} to {wall['high']:.2f}), of the processor "
            f"{cpu['median']:.2f} s; at most {LIMITS_S[name]:g} s is wanted"
        )
    results.write("startup", "cpu", vars(options) | {"limits_s": LIMITS_S}, rows)


def measure(repetitions: int) -> dict[str, dict[str, Any]]:
    """Return, for each command, the seconds on the clock and of the processor, with those of processes it started."""
    walls: dict[str, list[float]] = {name: [] for name in LIMITS_S}
    cpus: dict[str, list[float]] = {name: [] for name in LIMITS_S}
    # The first round fills the disk cache and compiles what has no bytecode yet; it does not count.
    for repetition in range(repetitions + 1):
        for name in LIMITS_S:
            with TemporaryDirectory() as folder:
                wall, cpu = timed(command(name, folder))
            if repetition > 0:
                walls[name].append(wall)
                cpus[name].append(cpu)
    return {name: {"wall_s": results.spread(walls[name]), "cpu_s": results.spread(cpus[name])} for name in LIMITS_S}


def command(name: str, folder: str) -> list[str]:
    if name == "first_step":
        train = ["train", "digits", "--device", "cpu", "--run-dir", f"{folder}/run"]
        return [sys.executable, "-m", "benchmarks.first_step", *train]
    return [str(Path(sys.executable).with_name("assay")), {"help": "--help", "list": "list"}[name]]


def timed(run: Sequence[str]) -> tuple[float, float]:
    """Run a command and return the seconds that it took: by the clock, and of CPU time.

    Raises:
        RuntimeError: it failed; the message holds its output.
    """
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    cpu, start = _children_s(), time.perf_counter()
    done = subprocess.run(run, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall = time.perf_counter() - start
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(run)} ended with {done.returncode}:\n{done.stderr}")
    return wall, _children_s() - cpu


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    main()
