"""Signals to real processes: the run is left between two steps, with its exit code, and goes on."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import QUIET, command, wait_for

from assay.runner import load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

EXPERIMENT = str(Path(__file__).parents[2] / "small_experiment.py")
SMALL = ["--device", "cpu", "--diagnostics", "off"]


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(folder, *arguments):
    return command("train", EXPERIMENT, *SMALL, *arguments, cwd=folder)


def start_ranks(folder, *arguments):
    run = [*TORCHRUN, "-m", "assay.runner", "train", EXPERIMENT, *SMALL, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(run, cwd=folder, env=os.environ | QUIET, **pipes)


def end(process):
    process.kill()
    process.wait()


def ranks_of(launcher):
    """Return the ids of a launcher's processes, by rank."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/environ") as environ:
                parent = int(stat.read().rpartition(")")[2].split()[1])
                variables = dict(line.split("=", 1) for line in environ.read().split("\0") if "=" in line)
        except OSError:
            continue
        if parent == launcher and "RANK" in variables:
            found[int(variables["RANK"])] = int(entry)
    return found


def test_sigterm_ends_the_run_with_75_and_a_line_that_says_how_to_go_on_and_one_process_goes_on(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    process = start(tmp_path, "--epochs", 99999, "--run-dir", "run")
    try:
        wait_for(lambda: (tmp_path / "run/checkpoints/last.pt").exists(), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=180)
    finally:
        end(process)
    assert process.returncode == 75
    said = re.fullmatch(
        r"assay: stopped by SIGTERM (?:in epoch \d+ after batch \d+|after epoch \d+); "
        rf"it is saved; continue it with: assay train {re.escape(EXPERIMENT)} --resume run\n",
        errors,
    )
    assert said, errors
    assert not (tmp_path / "run/.lock").exists()
    saved = load_checkpoint(tmp_path / "run")["epoch"]
    resumed = start(tmp_path, "--resume", "run", "--epochs", 99999)
    try:
        wait_for(lambda: max(epoch for epoch, _, _ in read_metrics(tmp_path / "run/metrics.csv")) > saved, resumed)
        assert main(["train", EXPERIMENT, "--resume", "run"]) == 2
        assert f"assay: error: run is in use by process {resumed.pid} on " in capsys.readouterr().err
    finally:
        end(resumed)


@pytest.mark.long("starts a launcher and two ranks; that a signal to the launcher reaches them, test_launch.py checks")
def test_a_signal_to_one_of_two_ranks_ends_both_at_the_same_step(tmp_path):
    process = start_ranks(tmp_path, "--epochs", 99999, "--run-dir", "run")
    try:
        wait_for(lambda: (tmp_path / "run/checkpoints/last.pt").exists(), process)
        os.kill(ranks_of(process.pid)[1], signal.SIGUSR1)
        _, errors = process.communicate(timeout=180)
    finally:
        end(process)
    assert errors.count("assay: stopped by SIGUSR1 ") == 1, errors
    assert f"continue it with: assay train {EXPERIMENT} --resume run\n" in errors
    assert "exitcode  : 75" in errors
    assert "Traceback" not in errors.split("ChildFailedError")[0].split("assay: stopped")[0]
