"""Several processes by torchrun: whose line is whose, and how a run ends when one of them fails."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["--diagnostics", "off", "--device", "cpu"]
EXPERIMENT = str(Path(__file__).with_name("small_experiment.py"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "assay.runner", "train"]
OF_DATA = ("near-duplicates", "repeated-ids", "conflicting-labels", "too-few-samples", "small-validation")
LAUNCH = ["-m", "assay.runner.launch", *TORCHRUN[2:]]

long = pytest.mark.long("starts a launcher and its ranks, as the quicker test beside it does")

FAILING = """
import atexit, os, signal, sys
from dataclasses import dataclass

from catalyst import dl

from assay.runner import UsageError

sys.path.append(os.environ["TESTS"])
from small_experiment import Small


class LastWords:
    def __del__(self):
        print("Python is taken down", flush=True)


words = LastWords()
atexit.register(print, "at exit")


class Fail(dl.Callback):
    def __init__(self, how):
        super().__init__(order=0)
        self.how = how

    def on_batch_start(self, runner):
        if runner.epoch_step != 2 or os.environ["RANK"] != "1":
            return
        print("failing", flush=True)
        if self.how == "raise":
            raise ValueError("sample seventeen is bad")
        if self.how == "misuse":
            raise UsageError("rank one alone is used in a wrong way.")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(kw_only=True)
class Failing(Small):
    how: str = "raise"
    n: int = 0
    h: int = 0

    def get_callbacks(self):
        return [*super().get_callbacks(), Fail(self.how)]
"""


def start(command, folder, **environment):
    """Start Python with an environment that no launcher has touched; stdout and stderr in one."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TORCHELASTIC", "PET_", "LOGLEVEL"))
    }
    kept |= {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=kept, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def read_until(process, text):
    """Return the lines up to one that holds the text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    process.communicate()
    raise AssertionError("".join(lines))


def finish(process, within=180):
    """Return the exit code and the rest of what was said; fail where the process hangs."""
    try:
        said, _ = process.communicate(timeout=within)
    finally:
        process.kill()
    return process.returncode, said


def processes_in(folder):
    """Return the processes whose working directory is the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "cwd") == str(folder):
                found.append(int(process.name))
    return found


def assert_no_orphans(folder, within=60):
    deadline = time.monotonic() + within
    while processes_in(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_in(folder)


@pytest.mark.parametrize(
    ("how", "code", "why"),
    [
        pytest.param("raise", 1, "[rank 1] ValueError: sample seventeen is bad", marks=long),
        pytest.param("misuse", 2, "[rank 1] assay: error: rank one alone is used in a wrong way.", marks=long),
        pytest.param("kill", 137, "assay: rank 1 was ended by SIGKILL; that ends the run", marks=long),
    ],
)
def test_an_error_on_one_rank_ends_all_with_its_reason(how, code, why, tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    fields = ["--how", how, "--n", "3", "--h=4"]
    process = start([*LAUNCH, "./failing.py", *fields, *SMALL], tmp_path, TESTS=str(Path(__file__).parent))
    before = read_until(process, "failing")
    returned, said = finish(process)
    assert returned == code
    assert why in said.splitlines()
    assert "[rank 0] run folder: " in before + said
    assert "[rank 0] assay: error" not in said  # that it lost rank 1 is no reason
    assert ("Traceback" in said) == (how == "raise")
    assert ("[rank 1] at exit" in said) == (how != "kill")
    assert "[rank 1] Python is taken down" not in said  # threads of gloo would end amid it, and abort the process
    assert_no_orphans(tmp_path)


@long
def test_wrong_use_is_said_once_under_plain_torchrun(tmp_path):
    returned, said = finish(start([*TORCHRUN, EXPERIMENT, "--epochs", "0"], tmp_path), within=120)
    assert returned == 1  # torchrun's own, as is the summary that it prints
    assert len(re.findall("assay: error: epochs must be at least 1, got 0.", said)) == 1
    assert not list(tmp_path.iterdir())


SIGNALS = [
    (signal.SIGUSR1, 75),
    *(pytest.param(*of, marks=long) for of in ((signal.SIGINT, 130), (signal.SIGKILL, -9))),
]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.long("starts a launcher and its ranks; the command itself is stopped by a quicker test")
def test_a_signal_to_the_launcher_ends_all_and_leaves_no_orphan(number, code, tmp_path):
    process = start([*LAUNCH, EXPERIMENT, "--epochs", "99999", *SMALL], tmp_path)
    read_until(process, "epoch     1/99999")
    process.send_signal(number)
    returned, said = finish(process)
    assert returned == code
    assert said.count("stopped by") == (number != signal.SIGKILL)
    assert_no_orphans(tmp_path)


def test_a_signal_while_the_launcher_starts_ends_it_with_75(tmp_path):
    process = start([*LAUNCH, EXPERIMENT, *SMALL], tmp_path)
    while b"assay.runner" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.01)
    while not handles(process.pid, signal.SIGTERM):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    returned, said = finish(process)
    assert returned == 75
    assert said == "assay: stopped by SIGTERM before anything was saved; start it again\n"
    assert list(tmp_path.iterdir()) == []


def handles(pid, number):
    """Whether a process has a handler for a signal."""
    caught = re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def fake_cluster(folder):
    """Write Slurm's commands: srun runs on this machine what it is given; the hosts are more than a pipe holds."""
    hosts = "echo localhost; seq -f node-%05.0f 20000"
    for name, script in (("srun", 'shift; echo "srun: $*"; exec "$@"'), ("scontrol", hosts)):
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    python = Path(sys.executable).parent
    return {
        "PATH": f"{folder}:/usr/bin:/bin",
        "VENV": str(python.parent),
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost,other",
        "OMP_NUM_THREADS": "1",
    }


@long
def test_the_slurm_script_trains(tmp_path):
    (tmp_path / "bin").mkdir()
    done = subprocess.run(
        ["bash", ROOT / "scripts/train.sbatch", EXPERIMENT, "--epochs", "1", *SMALL],
        cwd=tmp_path, env=fake_cluster(tmp_path / "bin") | {"PROCS": "2"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--nnodes 1 --nproc-per-node 2" in done.stdout
    assert re.search(r"--rdzv-endpoint localhost:\d+ ", done.stdout)
    assert "[rank 0] epoch 1/1" in done.stdout
    assert len(list(tmp_path.glob("runs/small_experiment/*/checkpoints/last.pt"))) == 1


def findings_before_training(folder):
    (file,) = folder.glob("runs/small_experiment/*/findings.json")
    return [one for one in json.loads(file.read_text()) if one["epoch"] == 0 and one["rule"] in OF_DATA]


@long
def test_two_processes_find_in_the_data_what_one_finds(tmp_path):
    commands = {"one": ["-m", "assay.runner", "train"], "two": TORCHRUN}
    found = {}
    for name, command in commands.items():
        (tmp_path / name).mkdir()
        # Nothing ends the run, as all is silenced that is an error.
        flags = [EXPERIMENT, "--epochs", "1", "--check", "full", "--silence", "shared-images", *SMALL]
        code, said = finish(start([*command, *flags], tmp_path / name))
        assert code == 0, said
        found[name] = findings_before_training(tmp_path / name)
    assert found["one"] and found["two"] == found["one"]


def test_the_slurm_script_ends_where_the_hosts_cannot_be_listed(tmp_path):
    environment = fake_cluster(tmp_path)
    (tmp_path / "scontrol").write_text("#!/bin/bash\necho slurmctld is down >&2; exit 3\n")
    command = ["bash", ROOT / "scripts/train.sbatch", "digits"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "slurmctld is down\n")


def test_the_slurm_script_without_an_experiment_says_so(tmp_path):
    done = subprocess.run(
        ["bash", ROOT / "scripts/train.sbatch"], env=fake_cluster(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("train.sbatch: name an experiment")


def make(*arguments):
    """Call the target ``train`` as if all were set up, and without what a ``make test`` around it hands on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-o", ".venv/.installed", "VENV=.venv", "train", *arguments]
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("variables", "launched"),
    [
        ([], None),
        (["PROCS=4"], "--nproc-per-node 4 --standalone"),
        (["NNODES=2", "NODE_RANK=0", "RDZV=head:29400", "PROCS=4"], "read_timeout=300,is_host=1"),
        (
            ["NNODES=2", "NODE_RANK=1", "RDZV=head:29400"],
            "--rdzv-endpoint head:29400 --rdzv-conf read_timeout=300,is_host=0",
        ),
    ],
)
def test_make_train_calls_the_launcher_for_several_processes(variables, launched):
    said = make("-n", "EXP=inria", *variables).stdout
    assert said.rstrip().endswith("train inria")
    assert ("assay.runner.launch" in said) == (launched is not None)
    assert launched is None or launched in said


def test_make_train_on_several_machines_needs_their_meeting_point():
    done = make("NNODES=2")
    assert done.returncode == 2
    assert "NNODES=2 needs RDZV=host:port" in done.stdout
