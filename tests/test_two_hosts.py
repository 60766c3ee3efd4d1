"""Two hosts on one machine: network namespaces with a cable between them, and a torchrun in each."""

import contextlib
import csv
import os
import shutil
import subprocess
import sys
import time

import pytest

ADDRESSES = ["10.123.45.1", "10.123.45.2"]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True)


@pytest.fixture
def hosts():
    """Return the names of two namespaces that reach each other; skip where they cannot be made."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip of iproute2")
    names = [f"assay{os.getpid()}-{host}" for host in range(2)]
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
    """Run ``digits`` on both hosts; give their processes, and the files that hold what each says."""
    processes, files = [], []
    for host, name in enumerate(hosts):
        command = [
            "ip", "netns", "exec", name, sys.executable, "-m", "assay.runner.launch", "--nnodes", "2",
            "--rdzv-backend", "c10d", "--rdzv-id", "assay", "--rdzv-endpoint", f"{ADDRESSES[0]}:29400",
            "--rdzv-conf", f"read_timeout=300,is_host={1 - host}", "--local-addr", ADDRESSES[host],
            "-m", "assay.runner", "train", "digits", "--width", "2", "--diagnostics", "off", "--device", "cpu",
            *arguments,
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


def test_two_hosts_train_into_one_run_folder(hosts, tmp_path):
    with training(hosts, tmp_path, "--epochs", "2") as (processes, files):
        codes = [process.wait(timeout=90) for process in processes]
    said = [file.read_text() for file in files]
    assert codes == [0, 0], said
    runs = list(tmp_path.glob("runs/digits/*"))
    assert len(runs) == 1
    assert sum(f"run folder: {runs[0].relative_to(tmp_path)}" in text for text in said) == 1
    rows = csv.DictReader((runs[0] / "metrics.csv").read_text().splitlines())
    assert {row["epoch"] for row in rows} == {"1", "2"}
    assert (runs[0] / "checkpoints" / "last.pt").exists()


def test_a_host_that_is_cut_off_ends_both(hosts, tmp_path):
    with training(hosts, tmp_path, "--epochs", "9999") as (processes, files):
        deadline = time.monotonic() + 90
        while not any("epoch    1/9999" in file.read_text() for file in files):
            assert time.monotonic() < deadline, [file.read_text() for file in files]
            time.sleep(0.2)
        ip("-n", hosts[1], "link", "set", "cable1", "down")
        began = time.monotonic()
        codes = [process.wait(timeout=60) for process in processes]
        assert time.monotonic() - began < 60
    assert codes == [1, 1]
    for file in files:
        said = file.read_text()
        assert "its machine is cut off" in said or "the machines did not find each other, or lost each other" in said
