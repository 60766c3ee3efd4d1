"""The part ``experiments``: each trains for an epoch, on the device and on the CPU."""

import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from .job import Job, Part
from .processes import Running, reason

NAMES = ("digits", "inria", "alaska2", "wheat")


def run_experiments(job: Job) -> Part:
    """Train all at the same time, in a process each; on a CPU in one process, a batch of each."""
    devices = ["cuda", "cpu"] if job.on_gpu else ["cpu"]
    groups = [[name] for name in NAMES] if job.on_gpu else [list(NAMES)]
    until = time.monotonic() + job.limit_s
    with tempfile.TemporaryDirectory() as folder:
        running = {}
        for names in groups:
            given = json.dumps({"names": names, "devices": devices, "folder": folder, "small": not job.on_gpu})
            log = job.logs / f"experiments-{'-'.join(names)}.log"
            command = ["-m", "benchmarks.gpu.train_experiments", given]
            running[", ".join(names)] = Running(command, log, **job.variables)
        codes = {names: process.wait(until) for names, process in running.items()}
        metrics = {
            name: {device: _last_metrics(Path(folder, f"{name}-{device}", "metrics.csv")) for device in devices}
            for name in NAMES
        }
    wrong = [f"{names} {reason(code, job.limit_s)}" for names, code in codes.items() if code != 0]
    wrong += [f"{name} on {device} has no metrics" for name, of in metrics.items() for device in of if not of[device]]
    what = "; ".join(wrong) or f"an epoch each of {', '.join(NAMES)}"
    state = "passed" if not wrong else "timed out" if None in codes.values() else "failed"
    return {"state": state, "what": what, "metrics": metrics}


def _last_metrics(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {f"{row['loader']}/{row['metric']}": float(row["value"]) for row in csv.DictReader(file)}


def page(metrics: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return a table per experiment: each metric after an epoch, on every device."""
    lines: list[str] = []
    for name, by_device in metrics.items():
        lines += ["", f"## {name}", "", f"| after an epoch | {' | '.join(by_device)} |"]
        lines.append("|---" * (1 + len(by_device)) + "|")
        for metric in dict.fromkeys(metric for found in by_device.values() for metric in found):
            lines.append(f"| {metric} | {' | '.join(_shown(found, metric) for found in by_device.values())} |")
    return lines


def _shown(found: dict[str, Any], metric: str) -> str:
    return f"{found[metric]:.4g}" if metric in found else ""
