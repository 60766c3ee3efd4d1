"""One process among several: it ends with its launcher, notices a lost machine, and lets who knows why speak first."""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from assay.callbacks.errors import UsageError

SILENCE_S = 20
"""How long another machine may leave TCP without an answer before it counts as lost."""

_PATIENCE_S = 10.0  # a rank that ends closes its connections first, and may take some seconds for the rest
_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)


def end_with_launcher() -> None:
    """Have the kernel end this process with ``torchrun``, which leaves its processes behind when it is killed."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def notice_lost_machines() -> None:
    """Have TCP ask now and then whether the other ends live, on each connection that this process has.

    A machine that is cut off says nothing, and a collective of gloo waits half an hour for it, as it does for a slow
    rank. But the kernel of a slow one answers: so only the lost one is noticed, and a rank may take its time.
    """
    if dist.is_initialized():
        watch_connections()


def watch_connections() -> None:
    """Have the connections that are open now fail when their other end is silent for ``SILENCE_S``."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(path).startswith("socket:"):
                with socket.socket(fileno=os.dup(int(path.name))) as connection:
                    _ask_whether_alive(connection)


def _ask_whether_alive(connection: socket.socket) -> None:
    if connection.type != socket.SOCK_STREAM or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_S // 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S // 6)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)  # also for what was sent


def lost_another_rank(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone, which reports for itself."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def explain_loss(error: BaseException) -> str | None:
    """Return what an error means that only says that another rank is gone; None for any other."""
    if not lost_another_rank(error):
        return None
    reason = str(error).split("] ")[-1].split(". ")[0].strip()
    return f"another process of the run ended, or its machine is cut off; if it ended, it says why ({reason})."


def wait_for_turn(error: BaseException) -> None:
    """Before an error is reported, give the rank a start that knows why: the others are ended by ``torchrun`` then.

    Wrong use is the same on every rank, and the first of each machine says it; that another rank is gone is nobody's
    reason. A rank that is still there after some seconds reports all the same, so that no error is lost.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    said_by_first = isinstance(error, UsageError) and os.environ.get("LOCAL_RANK", "0") != "0"
    if said_by_first or lost_another_rank(error):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_PATIENCE_S)
    get_error_handler().record_exception(error)  # for torchrun's summary


def leave(code: int) -> NoReturn:
    """End this process with an exit code, and without taking Python down.

    A thread of gloo lets go of the last collective's tensors in its own time, and needs Python for it. Where that is
    being taken down, the thread is ended amid C++, which aborts the process (SIGABRT) though all its work is done.
    """
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # the launcher is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
