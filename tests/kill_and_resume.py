"""Kills a run of digits at random moments, resumes it each time, and compares its end with that of a quiet run.

By hand: python tests/kill_and_resume.py --kills 20 --processes 1 2 --workers 0 2
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assay.runner import load_checkpoint

EPOCHS = 6
SMALL = ["--epochs", str(EPOCHS), "--width", "4", "--device", "cpu"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NO_ALBUMENTATIONS_UPDATE": "1"}


def start(folder, *, processes=1, workers=0, resume=False, restarts=0, options=()):
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--max-restarts={restarts}"]
        command += ["--nproc-per-node", str(processes)]
    command += ["-m", "assay.runner", "train", "digits"]
    fields = ["--resume", folder] if resume else ["--run-dir", folder, *SMALL, *options, "--workers", workers]
    log = open(f"{folder}.log", "a")  # noqa: SIM115 - the process has it
    with log:
        return subprocess.Popen([*command, *map(str, fields)], env=ENVIRONMENT, stdout=log, stderr=log)


def descendants(process_id):
    """Return the ids of all processes below one."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as stat:
            parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
    found = [process_id]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def rank_of(process_id):
    with contextlib.suppress(OSError), open(f"/proc/{process_id}/environ") as environ:
        for variable in environ.read().split("\0"):
            if variable.startswith("RANK="):
                return int(variable.removeprefix("RANK="))
    return None


def kill(process):
    """Kill -9 a process with all that it started, which torchrun puts into groups of their own."""
    for one in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    process.wait()


def wait_for(condition, process, timeout_s=120):
    """Wait until something is there; return whether it came before the process ended."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{process.args} did not come so far in {timeout_s} s")
        time.sleep(0.005)
    return process.poll() is None


def finish(process, folder):
    if process.wait(timeout=600) != 0:
        raise RuntimeError(f"{folder}: exit code {process.returncode}\n{Path(f'{folder}.log').read_text()[-3000:]}")


def has_checkpoint(folder):
    return (folder / "checkpoints" / "index.json").exists()


def run_straight(folder, **setup):
    """Return how long the training of a quiet run takes, without the start of its processes."""
    process = start(folder, **setup)
    wait_for((folder / ".lock").exists, process)
    began = time.monotonic()
    finish(process, folder)
    return time.monotonic() - began


def run_killed(folder, kills, longest_s, chance, **setup):
    """Run to the end through kills; return the last epoch saved at each, and how often it began anew."""
    moments, anew = [], 0
    while len(moments) < kills:
        resume = has_checkpoint(folder)
        if not resume and folder.exists():
            shutil.rmtree(folder)
            anew += 1
        process = start(folder, resume=resume, **setup)
        if not wait_for(partial(holds, process, folder), process):
            break
        time.sleep(chance.uniform(0, longest_s))
        if process.poll() is not None:
            break
        kill(process)
        moments.append(last_epoch(folder))
    if not has_checkpoint(folder) and folder.exists():
        shutil.rmtree(folder)
    finish(start(folder, resume=has_checkpoint(folder), **setup), folder)
    return moments, anew


def holds(process, folder):
    """Whether the run folder is held by a process or one below it; the file of a killed one stays."""
    with contextlib.suppress(OSError, IndexError):
        return int((folder / ".lock").read_text().split()[1]) in [process.pid, *descendants(process.pid)]
    return False


def last_epoch(folder):
    files = sorted((folder / "checkpoints").glob("epoch-*.pt"))
    return int(files[-1].stem.removeprefix("epoch-")) if files else 0


def differences(straight, killed):
    """Return what two runs differ in, in words; nothing where they are equal."""
    first, second = load_checkpoint(straight), load_checkpoint(killed)
    found = [kind for kind in ("model", "optimizer", "scheduler", "rng") if not equal(first[kind], second[kind])]
    if csv_of(straight) != csv_of(killed):
        found.append("metrics.csv")
    for loader in ("train", "valid", "run"):
        expected, points = (points_of(folder / "tensorboard" / loader) for folder in (straight, killed))
        if points != expected:
            found.append(f"points of {loader}: missing {expected - points}, too many {points - expected}")
    return found


def equal(first, second):
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def csv_of(folder):
    lines = (folder / "metrics.csv").read_text().splitlines()
    return [line for line in lines if not line.split(",")[2].startswith(("time/", "memory/"))]


def points_of(folder):
    """Return how often each point stands: by tag and step."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    found = [(tag, event.step) for tag in tags["scalars"] for event in events.Scalars(tag)]
    found += [(tag, event.step) for tag in tags["images"] for event in events.Images(tag)]
    return Counter(found + [(tag, event.step) for tag in tags["tensors"] for event in events.Tensors(tag)])


def kill_one_rank(folder, processes, **setup):
    """Kill one rank of an elastic run when it has two checkpoints, and wait for its end."""
    process = start(folder, processes=processes, restarts=1, **setup)
    wait_for(lambda: last_epoch(folder) >= 2, process)
    victims = [one for one in descendants(process.pid) if rank_of(one) == processes - 1]
    os.kill(victims[0], signal.SIGKILL)
    finish(process, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, failed = random.Random(arguments.seed), False
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'processes':>9} {'workers':>7} {'kills':>5} {'anew':>4}  after epochs; end")
        for processes in arguments.processes:
            for workers in arguments.workers:
                setup = {"processes": processes, "workers": workers}
                straight, killed, elastic = (
                    Path(folder, f"{name}-{processes}-{workers}") for name in ("straight", "killed", "elastic")
                )
                seconds = run_straight(straight, **setup)
                moments, anew = run_killed(killed, arguments.kills, 2.5 * seconds / EPOCHS, chance, **setup)
                wrong = differences(straight, killed)
                shown = f"{processes:>9} {workers:>7} {len(moments):>5} {anew:>4}"
                print(f"{shown}  {' '.join(map(str, moments))}; {wrong or 'equal'}", flush=True)
                failed |= bool(wrong)
                if processes > 1:
                    kill_one_rank(elastic, **setup)
                    wrong = differences(straight, elastic)
                    print(
                        f"{processes:>9} {workers:>7}     1       one rank, restarted; {wrong or 'equal'}", flush=True
                    )
                    failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
