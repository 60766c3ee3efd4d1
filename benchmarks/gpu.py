"""Run everything that only a GPU can show: the tests, the experiments beside the CPU, and the cost.

A part that fails does not end the others. The results are written after each part, so that those of a machine that is
taken away meanwhile are kept: ``results/gpu-NAME.json``, and ``.md`` to read. With ``--device cpu`` the same runs in
small on a machine without a GPU, to find out whether the command itself works.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .apart import ROOT
from .devices import DEVICES, require_device
from .results import FOLDER, machine, read

EXPERIMENTS = ("digits", "inria", "alaska2", "wheat")
ROWS = ("bare loop", "assay, off", "assay, full", "assay, full, gradients every step", "Lightning with diagnostics")
Part = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and write what came of them; return 1 where one has failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; by default all")
    parser.add_argument("--device", choices=DEVICES, default="cuda")
    parser.add_argument("--name", help="of the results; by default that of the GPU")
    parser.add_argument("--repetitions", type=int, default=2, help="turns of each cost (%(default)s)")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    require_device(parser, options.device)
    name = options.name or _machine_name(options.device)
    done: dict[str, Part] = {}
    for part in options.parts or PARTS:
        print(f"-- {part}", flush=True)
        began = time.monotonic()
        try:
            done[part] = PARTS[part](options.device, options.repetitions)
        except (OSError, ValueError, subprocess.SubprocessError, ET.ParseError) as error:
            done[part] = {"passed": False, "what": " ".join(f"{type(error).__name__}: {error}".split())[-2000:]}
        done[part]["seconds"] = round(time.monotonic() - began, 1)
        _write(name, options.device, done)
        print(f"{part}: {'passed' if done[part]['passed'] else 'FAILED'}, {done[part]['what']}", flush=True)
    return 0 if all(part["passed"] for part in done.values()) else 1


def _machine_name(device: str) -> str:
    found = torch.cuda.get_device_name(0) if device == "cuda" else "on-cpu"
    return re.sub(r"[^a-z0-9]+", "-", found.lower()).strip("-")


def _tests(device: str, repetitions: int) -> Part:
    """Run the tests with the mark ``gpu``."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = ["-m", "pytest", "-m", "gpu", "tests", "-p", "no:cacheprovider", "--tb=short", f"--junitxml={report}"]
        jobs = ["-n", str(min(12, len(os.sched_getaffinity(0))))]
        # pytest-benchmark, where it is installed, warns of processes; a warning is an error here.
        code, said = _run([*command, *jobs, "-p", "no:benchmark"], 240, GPU_TESTS_DEVICE=device)
        if not report.exists():
            return {"passed": False, "what": f"pytest ended with {code}: {said[-1500:]}"}
        suite = next(ET.parse(report).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    return {"passed": code == 0, "what": what, "counts": counts, "failed": failed}


def _experiments(device: str, repetitions: int) -> Part:
    """Train each experiment for an epoch, on the device and on the CPU, all at the same time."""
    devices = (device, "cpu") if device == "cuda" else ("cpu",)
    small = [] if device == "cuda" else ["--limit-batches", "1"]
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPERIMENTS[1:]:  # before two processes want the same data
            _run(["-m", "assay.runner", "data", name, "--data-dir", f"{folder}/{name}"], 120)
        running = {}
        for name in EXPERIMENTS:
            for one in devices:
                data = [] if name == "digits" else ["--data-dir", f"{folder}/{name}"]
                given = ["--epochs", "1", "--device", one, "--threads", "4", "--run-dir", f"{folder}/{name}-{one}"]
                command = ["-m", "assay.runner", "train", name, *data, *given, *small]
                running[name, one] = subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
        end = time.monotonic() + 120
        codes = {f"{name} on {one}": _wait(process, end) for (name, one), process in running.items()}
        metrics = {
            name: {one: _last_metrics(Path(folder, f"{name}-{one}", "metrics.csv")) for one in devices}
            for name in EXPERIMENTS
        }
    failed = {name: code for name, code in codes.items() if code != 0}
    what = f"exit codes {failed}" if failed else f"an epoch each of {', '.join(EXPERIMENTS)}"
    return {"passed": not failed, "what": what, "metrics": metrics}


def _cost(masks: bool, device: str, repetitions: int) -> Part:
    """Measure the rows of ``benchmarks.overhead`` that say most."""
    rows = ROWS if device == "cuda" else ROWS[:3:2]
    command = ["-m", "benchmarks.overhead", "--device", device, "--rows", *rows]
    command += ["--repetitions", str(repetitions)] + ["--masks"] * masks + ["--write"] * (device == "cuda")
    code, said = _run(command, 280)
    if code != 0:
        return {"passed": False, "what": said[-1500:]}
    if device != "cuda":
        return {"passed": True, "what": "the command works"}
    found = read("overhead-masks" if masks else "overhead", device)
    ratios = {name: row["ratio"]["median"] for name, row in found["rows"].items()}
    what = ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
    return {"passed": True, "what": what, "settings": found["settings"], "rows": found["rows"]}


PARTS: dict[str, Callable[[str, int], Part]] = {
    "tests": _tests,
    "experiments": _experiments,
    "classifier": lambda device, repetitions: _cost(False, device, repetitions),
    "masks": lambda device, repetitions: _cost(True, device, repetitions),
}


def _run(command: Sequence[str], timeout_s: float, **variables: str) -> tuple[int, str]:
    """Run a command of Python; return its exit code and what it said."""
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_WAIT_POLICY": "passive", **variables}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, timeout=timeout_s, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout


def _wait(process: subprocess.Popen[bytes], end: float) -> int | str:
    try:
        return process.wait(max(end - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return "not done in time"


def _last_metrics(path: Path) -> dict[str, float]:
    if not path.exists():
        return {}
    with open(path, newline="") as file:
        return {f"{row['loader']}/{row['metric']}": float(row["value"]) for row in csv.DictReader(file)}


def _write(name: str, device: str, parts: dict[str, Part]) -> None:
    FOLDER.mkdir(exist_ok=True)
    about = machine(device)
    about["commit"] = os.environ.get("COMMIT") or about["commit"]  # a copy of the files has no history of its own
    content = {"machine": about, "device": device, "parts": parts}
    (FOLDER / f"gpu-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (FOLDER / f"gpu-{name}.md").write_text("\n".join(_page(about, parts)) + "\n")


def _page(about: dict[str, Any], parts: dict[str, Part]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    lines = [f"# {about['gpu'] or about['cpu']}", "", f"{about['date']}, commit {about['commit']}; {packages}.", ""]
    lines += ["| part | | s | |", "|---|---|---|---|"]
    for name, part in parts.items():
        what = part["what"].replace("|", "\\|")
        lines.append(f"| {name} | {'passed' if part['passed'] else 'FAILED'} | {part['seconds']:g} | {what} |")
    for failed in parts.get("tests", {}).get("failed", ()):
        lines.append(f"\nFailed: `{failed}`")
    for name, by_device in parts.get("experiments", {}).get("metrics", {}).items():
        lines += [
            "",
            f"## {name}",
            "",
            f"| after an epoch | {' | '.join(by_device)} |",
            "|---" * (1 + len(by_device)) + "|",
        ]
        for metric in dict.fromkeys(metric for metrics in by_device.values() for metric in metrics):
            values = [f"{metrics[metric]:.4g}" if metric in metrics else "" for metrics in by_device.values()]
            lines.append(f"| {metric} | {' | '.join(values)} |")
    for name in ("classifier", "masks"):
        lines += _cost_table(name, parts.get(name, {}))
    return lines


def _cost_table(name: str, part: Part) -> list[str]:
    if "rows" not in part:
        return []
    setting = part["settings"]
    lines = ["", f"## Cost: {setting['model']}, {setting['side']} px, batches of {setting['batch_size']}", ""]
    lines += ["| | time over the bare loop | s | host s | GPU memory, MiB |", "|---|---|---|---|---|"]
    for row, found in part["rows"].items():
        ratio = found["ratio"]
        lines.append(
            f"| {row} | {ratio['median']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}) | "
            f"{found['seconds']['median']:.2f} | {found['cpu_seconds']['median']:.2f} | "
            f"{found['peak_mib']['median']:.0f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
