"""Kills a small run at random moments, resumes it each time, and compares its end with that of a quiet run.

By hand: python tests/kill_and_resume.py --kills 20 --processes 1 2 --workers 0 2

Ranks are forked from a process that has imported all, so that one is killed and started again within a second or two.
Where only one rank is killed, ``torchrun`` starts the ranks, and restarts them.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from multiprocessing import set_start_method
from pathlib import Path

import forked
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assay.runner import load_checkpoint
from assay.runner.commands.main import main as assay

EPOCHS = 6
EXPERIMENT = Path(__file__).with_name("small_experiment.py")


class Ranks:
    """The processes of one run, which end alike or are killed together."""

    def __init__(self, folder, processes=1, workers=0, resume=False, options=()):
        fields = ["--resume", folder] if resume else ["--run-dir", folder, "--epochs", EPOCHS, "--device", "cpu"]
        fields += [] if resume else ["--workers", workers, *options]
        context = forked.context()
        arguments = [f"{folder}.log", list(map(str, ["train", EXPERIMENT, *fields]))]
        self.ranks = [
            context.Process(target=be_a_rank, args=(of_rank, *arguments)) for of_rank in environments(processes)
        ]
        for rank in self.ranks:
            rank.start()

    @property
    def ids(self):
        return [rank.pid for rank in self.ranks]

    def poll(self):
        """Return the exit code, of several the worst; None while one is at work."""
        codes = [rank.exitcode for rank in self.ranks]
        return None if None in codes else max(codes, key=abs)

    def finish(self, folder, timeout_s=600):
        for rank in self.ranks:
            rank.join(timeout_s)
        if self.poll() != 0:
            self.kill()
            raise RuntimeError(f"{folder}: exit code {self.poll()}\n{Path(f'{folder}.log').read_text()[-3000:]}")

    def kill(self):
        """Kill -9 the group of each rank, which its workers belong to."""
        for process_id in self.ids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process_id, signal.SIGKILL)
        for rank in self.ranks:
            rank.join()


def environments(processes):
    """Return what ``torchrun`` would tell each rank."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1], "WORLD_SIZE": processes}
    common["LOCAL_WORLD_SIZE"] = processes
    ranks = [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(processes)]
    return [{name: str(value) for name, value in of_rank.items()} for of_rank in ranks]


def be_a_rank(environment, log, arguments):
    os.setpgid(0, 0)
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for said in (1, 2):
        os.dup2(file, said)
    set_start_method("fork", force=True)  # of its workers, as where the process was not forked itself
    torch.set_num_threads(1)
    sys.exit(assay(arguments))


def wait_for(condition, process, timeout_s=120):
    """Wait until something is there; return whether it came before the process ended."""
    deadline = time.monotonic() + timeout_s
    while process.poll() is None and not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come so far in {timeout_s} s")
        time.sleep(0.005)
    return process.poll() is None


def has_checkpoint(folder):
    return (folder / "checkpoints" / "index.json").exists()


def last_epoch(folder):
    files = sorted((folder / "checkpoints").glob("epoch-????.pt"))
    return int(files[-1].stem.removeprefix("epoch-")) if files else 0


def is_held(folder, process_ids):
    """Whether one of the processes holds the run folder; the file of a killed one stays."""
    with contextlib.suppress(OSError, IndexError):
        return int((folder / ".lock").read_text().split()[1]) in process_ids
    return False


def run_straight(folder, **setup):
    """Make a quiet run; return how long it took to its first checkpoint, and from one to the next."""
    ranks = Ranks(folder, **setup)
    wait_for(lambda: is_held(folder, ranks.ids), ranks)
    began = time.monotonic()
    wait_for(lambda: has_checkpoint(folder), ranks)
    first = time.monotonic() - began
    ranks.finish(folder)
    return first, (time.monotonic() - began - first) / (EPOCHS - 1)


def start_or_resume(folder, **setup):
    """Start the ranks; a run without a checkpoint begins anew."""
    resume = has_checkpoint(folder)
    if not resume and folder.exists():
        shutil.rmtree(folder)
    return Ranks(folder, resume=resume, **setup)


def run_killed(folder, kills, seconds, chance, **setup):
    """Run to the end through at most so many kills; return the last epoch that was saved at each.

    A third of them comes within an epoch after the next checkpoint, the others at any time until then.
    """
    first_s, epoch_s = seconds
    moments = []
    ranks = start_or_resume(folder, **setup)
    while len(moments) < kills and wait_for(partial(is_held, folder, ranks.ids), ranks):
        saved = last_epoch(folder)
        if later := chance.random() < 1 / 3:
            wait_for(lambda saved=saved: last_epoch(folder) > saved, ranks)
        time.sleep(chance.uniform(0, epoch_s if later else first_s))
        if ranks.poll() is not None:
            break
        ranks.kill()
        moments.append(last_epoch(folder))
        ranks = start_or_resume(folder, **setup)
    ranks.finish(folder)
    return moments


def run_restarted(folder, processes, kills=1, workers=0, options=()):
    """Kill a rank of a run by ``torchrun`` whenever it has saved another epoch, and wait for its end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command += ["--max-restarts", kills, "-m", "assay.runner", "train", EXPERIMENT, "--run-dir", folder]
    command += ["--epochs", EPOCHS, "--device", "cpu", "--workers", workers, *options]
    with open(f"{folder}.log", "w") as log:
        torchrun = subprocess.Popen(list(map(str, command)), env=os.environ | forked.QUIET, stdout=log, stderr=log)
    try:
        for kill in range(kills):
            wait_for(lambda saved=kill: last_epoch(folder) > saved, torchrun)
            os.kill(rank_below(torchrun.pid, kill % processes), signal.SIGKILL)
        code = torchrun.wait(timeout=600)
    finally:
        torchrun.kill()
    if code != 0:
        raise RuntimeError(f"{folder}: exit code {code}\n{Path(f'{folder}.log').read_text()[-3000:]}")


def rank_below(launcher, rank):
    """Return the id of a rank among the processes that a launcher has started."""
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher and f"RANK={rank}" in Path(f"/proc/{entry}/environ").read_text().split("\0"):
                return int(entry)
    raise ProcessLookupError(f"torchrun has no rank {rank}")


def differences(straight, killed):
    """Return what two runs differ in, in words; nothing where they are equal."""
    first, second = load_checkpoint(straight), load_checkpoint(killed)
    found = [kind for kind in ("model", "optimizer", "scheduler", "rng") if not equal(first[kind], second[kind])]
    if csv_of(straight) != csv_of(killed):
        found.append("metrics.csv")
    for loader in ("train", "valid"):
        expected, points = (points_of(folder / loader) for folder in (straight, killed))
        if points != expected:
            found.append(f"points of {loader}: missing {expected - points}, too many {points - expected}")
    expected, files = results_of(straight), results_of(killed)
    if files != expected:
        found.append(f"results: {sorted(name for name in files | expected if files.get(name) != expected.get(name))}")
    return found


def results_of(run):
    """Return the content of each file of the results, by its path."""
    folder = run / "results"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    kinds = ("scalars", "images", "tensors", "histograms")
    events = EventAccumulator(str(folder), size_guidance=dict.fromkeys(kinds, 0)).Reload()
    of_kind = {kind: getattr(events, kind.capitalize()) for kind in kinds}
    return Counter(
        (kind, tag, event.step, value_of(kind, tag, event))
        for kind in kinds
        for tag in events.Tags()[kind]
        for event in of_kind[kind](tag)
    )


def value_of(kind, tag, event):
    if kind == "images":
        return hashlib.sha256(event.encoded_image_string).hexdigest()[:8]
    return event.value if kind == "scalars" and not tag.startswith(("9_time/", "9_memory/")) else None


def rows(arguments, folder):
    """Yield a line of the table for each setup, with whether all was equal."""
    chance = random.Random(arguments.seed)
    for processes in arguments.processes:
        for workers in arguments.workers:
            for persistent in [True, False] if workers else [False]:
                options = ["--persistent", str(persistent), *arguments.options.split()]
                setup = {"processes": processes, "workers": workers, "options": options}
                name = f"{processes}-{workers}-{persistent}"
                yield from rows_of(Path(folder, name), arguments, chance, setup, ["no", "yes"][persistent])


def rows_of(folder, arguments, chance, setup, persistent):
    shown = f"{setup['processes']:>9} {setup['workers']:>7} {persistent:>10}"
    straight = folder / "straight"
    folder.mkdir()
    seconds = run_straight(straight, **setup)
    moments, wrong, runs = [], [], 0
    while len(moments) < arguments.kills:  # a run that comes to its end before is followed by another
        runs += 1
        killed = folder / f"killed-{runs}"
        moments += run_killed(killed, arguments.kills - len(moments), seconds, chance, **setup)
        wrong += differences(straight, killed)
    yield f"{shown} {len(moments):>5} {runs:>4}  {' '.join(map(str, moments))}; {wrong or 'equal'}", not wrong
    if setup["processes"] > 1 and arguments.restarts:
        run_restarted(folder / "restarted", kills=arguments.restarts, **setup)
        wrong = differences(straight, folder / "restarted")
        yield f"{shown} {arguments.restarts:>5}    1  one rank each, by torchrun; {wrong or 'equal'}", not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=1, help="by torchrun, of runs of several processes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", default="--diagnostics full", help="more fields of the experiment, in quotes")
    arguments, failed = parser.parse_args(), False
    with tempfile.TemporaryDirectory() as folder:
        print("processes workers persistent kills runs  epochs saved at each kill; end", flush=True)
        for line, good in rows(arguments, folder):
            print(line, flush=True)
            failed |= not good
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
