"""Processes forked from a server that has imported what takes seconds: each starts within a fraction of a second.

Each process of pytest has its own server, from the first call on. A forked process is a real one, with its own memory,
signals, files and exit code; only its imports are done. What is about start-up itself (imports, threads, the launcher)
needs a fresh interpreter instead.
"""

import atexit
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from multiprocessing import forkserver
from pathlib import Path

QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NO_ALBUMENTATIONS_UPDATE": "1"}
PRELOADED = [
    "__main__",
    "pytest",
    "torch._dynamo",
    "torch.distributed.elastic.multiprocessing.errors",
    "torchmetrics",
    "albumentations",
    "sklearn.datasets",
    "tensorboard.backend.event_processing.event_accumulator",
    "assay.runner.commands.train",
    "assay.callbacks.samples.best_worst_batches",
]


def context():
    """Return the multiprocessing context of the server, which starts with the first call."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOADED)
    # The server inherits the environment; with one thread it has none that a fork could leave amid a lock.
    kept = {name: os.environ.get(name) for name in QUIET}
    os.environ.update(QUIET)
    forkserver.ensure_running()
    for name, value in kept.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})
    return found


class Forked:
    """A function in a forked process, with what tests use of ``subprocess.Popen``."""

    def __init__(self, function, *arguments, cwd=None, env=None, merge=False):
        """Start it; with ``merge`` stderr goes where stdout goes. ``env`` is the whole environment, as for Popen."""
        folder = tempfile.mkdtemp(prefix="forked-")
        weakref.finalize(self, shutil.rmtree, folder, True)
        self.files = [Path(folder, name) for name in ("stdout", "stdout" if merge else "stderr")]
        environment = dict(os.environ | QUIET if env is None else env)
        task = (list(map(str, self.files)), str(cwd or Path.cwd()), environment, function, arguments)
        self.process = context().Process(target=_become, args=task)
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.process.kill()

    def read(self):
        """Return what it has written so far to stdout, and to stderr."""
        first, second = (file.read_text() if file.exists() else "" for file in self.files)
        return first, None if self.files[0] == self.files[1] else second

    def communicate(self, timeout=None):
        self.wait(timeout)
        return self.read()

    def result(self, timeout=300):
        """Wait for its end, and return what ``subprocess.run`` does."""
        try:
            stdout, stderr = self.communicate(timeout)
        finally:
            self.kill()
        return subprocess.CompletedProcess([], self.returncode, stdout, stderr)


def command(*arguments, module="assay.runner", **options):
    """Start ``python -m MODULE ARGUMENTS``."""
    return Forked(_run_module, module, list(map(str, arguments)), **options)


def wait_for(condition, process, timeout_s=120):
    """Wait until a condition gives something, and return it; fail where the process ends before."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"it did not come so far in {timeout_s} s"
        time.sleep(0.02)
    return found


def _become(files, folder, environment, function, arguments):
    """Make of the fork what a new process would be: its files, working directory, environment, and signals."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    opened = {file: os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for file in files}
    for standard, file in zip((1, 2), files, strict=True):
        os.dup2(opened[file], standard)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)  # of loaders, as where the process was not forked itself
    sys.path[0] = ""
    try:
        function(*arguments)
    finally:
        # multiprocessing ends a process without what is registered here; a real interpreter calls it.
        atexit._run_exitfuncs()


def _run_module(name, arguments):
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)
