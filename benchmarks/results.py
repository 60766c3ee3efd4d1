"""What was measured, with the machine that it was measured on, as JSON files in ``benchmarks/results/``."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parent / "results"
_PACKAGES = ("torch", "torchvision", "catalyst", "accelerate", "torchmetrics", "lightning", "pytorch-ignite",
             "albumentations", "opencv-python-headless", "numpy", "tensorboard")  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return median, smallest and largest of repeated measurements, and all of them in their order."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "values": list(values)}


def write(name: str, device: str, settings: Mapping[str, Any], rows: Mapping[str, Any]) -> Path:
    """Write the rows of one benchmark to ``results/NAME-DEVICE.json``, and say where.

    Args:
        name: of the benchmark.
        device: ``cpu`` or ``cuda``.
        settings: what was asked for: sizes, steps, repetitions.
        rows: what came of it, by name.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}-{device}.json"
    content = {"machine": machine(device), "settings": dict(settings), "rows": dict(rows)}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {path.relative_to(FOLDER.parent.parent)}", flush=True)
    return path


def read(name: str, device: str) -> dict[str, Any]:
    """Return what ``write`` wrote."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}-{device}.json").read_text())
    return content


def machine(device: str) -> dict[str, Any]:
    """Return what a reader has to know of the machine."""
    gpu = torch.cuda.get_device_properties(0) if device == "cuda" else None
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": None if gpu is None else f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {package: found for package in _PACKAGES if (found := _version(package))},
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=FOLDER.parent, capture_output=True, text=True)
    return done.stdout.strip()
