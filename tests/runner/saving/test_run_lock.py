"""One process at a time in a run folder, with real processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from assay.callbacks.errors import UsageError
from assay.runner.saving.run_lock import LOCK, locked

HOLD = """
import sys, time
from pathlib import Path
from assay.runner.saving.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


HOLD_WITH_A_WORKER = """
import os, sys, time
from pathlib import Path
from assay.runner.saving.run_lock import locked
with locked(Path(sys.argv[1])):
    if os.fork() == 0:
        os.close(1)
        sys.stdin.read()  # until the test ends
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_holds_the_folder(holder, tmp_path):
    with pytest.raises(UsageError, match=rf"{tmp_path} is in use by process {holder.pid} on \S+: wait until"):
        locked(tmp_path).__enter__()
    assert (tmp_path / LOCK).exists()


def test_the_lock_of_a_killed_process_is_taken_over(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlives_its_killed_process_does_not_keep_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD_WITH_A_WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        with locked(tmp_path):
            assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()
        process.stdin.close()


def test_it_is_let_go_of_by_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="broken"), locked(tmp_path):
        raise RuntimeError("broken")
    assert list(tmp_path.iterdir()) == []


def test_where_the_file_system_has_no_locks_a_warning_says_so(tmp_path, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with locked(tmp_path):
        pass
    assert caplog.messages == [
        f"{tmp_path} cannot be locked (No locks available): start no second process that trains in it."
    ]
