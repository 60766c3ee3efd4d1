"""Run everything that only a GPU can show: the tests, the cost, and the experiments beside the CPU.

A part that fails, is killed or takes too long does not end the others. The results are written after each part, so that
those of a machine that is taken away meanwhile are kept: ``gpu-NAME.json``, and ``.md`` to read. With ``--device cpu``
the same runs in small on a machine without a GPU, to find out whether the command itself works.

The project need not be installed: it is enough that ``PYTHONPATH`` leads to a folder whose ``assay`` holds ``runner``,
``callbacks`` and ``experiments``, and to what else they import. ``COMMIT`` names the commit where there is no git.
"""

import argparse
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from ..apart import ROOT
from ..devices import DEVICES, require_device
from ..results import FOLDER
from .cost import PARTS as COST
from .experiments import run_experiments
from .gpu_tests import run_tests
from .job import Job, Part
from .report import Report

# What was never seen before comes first, as a machine may be taken back at any time.
PARTS: dict[str, Callable[[Job], Part]] = {"tests": run_tests, **COST, "experiments": run_experiments}
# Seconds on a GPU: of each part, and of all of them; the small version may run on a machine that others use too.
LIMITS = {"tests": 110.0, "classifier": 85.0, "masks": 80.0, "detector": 80.0, "experiments": 105.0}
TOTAL_S = {"cuda": 465.0, "cpu": 1800.0}
# A part of which less is left is not begun.
LEAST_S = 30.0
WORK = ROOT / "build" / "gpu"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and write what came of them; return 1 where one did not pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--name", help="of the results; by default that of the GPU")
    parser.add_argument(
        "--results", type=Path, help="folder for them; by default benchmarks/results, on a CPU build/gpu"
    )
    parser.add_argument("--seconds", type=float, help="for all parts together; on a GPU 465 by default")
    parser.add_argument("--at-once", type=int, default=1, help="parts to run at once; more than 1 spoils the times")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    require_device(parser, options.device)
    folder = options.results or (FOLDER if options.device == "cuda" else WORK)
    report = Report(folder, options.name or _machine_name(options.device), options.device)
    until = time.monotonic() + (options.seconds or TOTAL_S[options.device])
    one_at_a_time = threading.Lock()

    def run_and_report(name: str) -> None:
        part = _run(name, options.device, until)
        with one_at_a_time:
            report.add(name, part)
            print(report.line(name), flush=True)

    pool = ThreadPoolExecutor(options.at_once)
    try:
        for done in [pool.submit(run_and_report, name) for name in options.parts or PARTS]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    print(f"written: {report.path}.json and .md", flush=True)
    return 0 if report.passed else 1


def _run(name: str, device: str, until: float) -> Part:
    """Run a part within what is left of the time; whatever goes wrong becomes its result."""
    print(f"-- {name}", flush=True)
    began = time.monotonic()
    left = until - began
    if left < LEAST_S:
        return {"state": "not run", "what": f"no time left: {max(left, 0.0):.0f} s", "seconds": 0.0}
    try:
        limit_s = min(left, LIMITS.get(name, left)) if device == "cuda" else left
        part = PARTS[name](Job(device, limit_s, WORK))
    except Exception as error:  # noqa: BLE001 - whatever it is, the next part shall run
        part = {"state": "failed", "what": " ".join(f"{type(error).__name__}: {error}".split())[-2000:]}
    return {**part, "seconds": round(time.monotonic() - began, 1)}


def _machine_name(device: str) -> str:
    found = torch.cuda.get_device_name(0) if device == "cuda" else "dry run on a cpu"
    return re.sub(r"[^a-z0-9]+", "-", found.lower()).strip("-")


if __name__ == "__main__":
    sys.exit(main())
