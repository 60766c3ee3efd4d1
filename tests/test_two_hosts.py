"""Two hosts on one machine: network namespaces with a cable between them, and a torchrun in each."""

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.long("starts eight processes, and waits until a machine counts as lost")
EXPERIMENT = str(Path(__file__).with_name("small_experiment.py"))
ADDRESSES = ["10.123.45.1", "10.123.45.2"]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@contextlib.contextmanager
def two_hosts(label):
    """Give the names of two namespaces that reach each other; skip where they cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip of iproute2")
    names = [f"assay{os.getpid()}-{label}{host}" for host in range(2)]
    try:
        for name in names:
            made = ip("netns", "add", name)
            if made.returncode:
                pytest.skip(f"network namespaces are not allowed here: {made.stderr.strip()}")
        made = ip(
            "link", "add", "cable0", "netns", names[0], "type", "veth", "peer", "name", "cable1", "netns", names[1]
        )
        if made.returncode:
            pytest.skip(f"a pair of veth devices is not allowed here: {made.stderr.strip()}")
        for host, name in enumerate(names):
            ip("-n", name, "addr", "add", f"{ADDRESSES[host]}/24", "dev", f"cable{host}")
            ip("-n", name, "link", "set", f"cable{host}", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


@contextlib.contextmanager
def training(hosts, folder, *arguments):
    """Run a small experiment on both hosts; give their processes, and the files that hold what each says."""
    processes, files = [], []
    for host, name in enumerate(hosts):
        command = [
            "ip", "netns", "exec", name, sys.executable, "-m", "assay.runner.launch", "--nnodes", "2",
            "--rdzv-backend", "c10d", "--rdzv-id", "assay", "--rdzv-endpoint", f"{ADDRESSES[0]}:29400",
            "--rdzv-conf", f"read_timeout=300,is_host={1 - host}", "--local-addr", ADDRESSES[host],
            "-m", "assay.runner", "train", *arguments, "--device", "cpu",
        ]  # fmt: skip
        environment = os.environ | {"GLOO_SOCKET_IFNAME": f"cable{host}", "OMP_NUM_THREADS": "1"}
        files.append(folder / f"host-{host}.log")
        with files[-1].open("w") as said:
            processes.append(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
            )
    try:
        yield processes, files
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(condition, processes, files, timeout_s):
    """Wait until something is so; fail with what was said where the time is over, or no process can bring it about."""
    deadline = time.monotonic() + timeout_s
    at_work = True
    while not condition():
        assert at_work and time.monotonic() < deadline, [file.read_text() for file in files]
        at_work = any(process.poll() is None for process in processes)
        time.sleep(0.1)


def ends_of(processes, files, timeout_s):
    """Return exit codes and what each host said; fail where one does not end."""
    wait_for(lambda: all(process.poll() is not None for process in processes), processes, files, timeout_s)
    return [process.returncode for process in processes], [file.read_text() for file in files]


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """Return the folder of a run on two hosts, its ends, and those of two others whose cable was cut meanwhile."""
    whole, cut = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("cut")
    small = [EXPERIMENT, "--diagnostics", "off", "--epochs", "99999"]
    with two_hosts("a") as hosts, two_hosts("b") as to_cut, training(to_cut, cut, *small) as (cut_off, files):
        wait_for(lambda: any("epoch     1/99999" in file.read_text() for file in files), cut_off, files, 300)
        ip("-n", to_cut[1], "link", "set", "cable1", "down")
        with training(hosts, whole, "digits", "--width", "2", "--diagnostics", "off", "--epochs", "2") as both:
            ends_of_cut = ends_of(cut_off, files, 60)
            yield whole, ends_of(*both, 300), ends_of_cut


def test_two_hosts_train_into_one_run_folder(ends):
    folder, (codes, said), _ = ends
    assert codes == [0, 0], said
    runs = list(folder.glob("runs/digits/*"))
    assert len(runs) == 1
    assert sum(f"run folder: {runs[0].relative_to(folder)}" in text for text in said) == 1
    rows = csv.DictReader((runs[0] / "metrics.csv").read_text().splitlines())
    assert {row["epoch"] for row in rows} == {"1", "2"}
    assert (runs[0] / "checkpoints" / "last.pt").exists()


def test_a_host_that_is_cut_off_ends_both(ends):
    _, _, (codes, said) = ends
    assert codes == [1, 1], said
    for text in said:
        assert "its machine is cut off" in text or "the machines did not find each other, or lost each other" in text
