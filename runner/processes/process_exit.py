"""One process among several: end with the launcher, detect lost machines, and let the rank that failed first report."""

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

from .early_stop import unanswered_signal

SILENCE_S = 20
"""Seconds without an answer from another machine's TCP before it counts as lost."""

_PATIENCE_S = 20.0  # a rank that ends closes its connections first; on a busy machine it reports seconds later
_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)


def end_with_launcher() -> None:
    """Make the kernel end this process with ``torchrun``."""
    # torchrun leaves its processes behind when it is killed.
    if "TORCHELASTIC_RUN_ID" in os.environ:
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def notice_lost_machines() -> None:
    """Turn on TCP keep-alive for all connections of a process of several, to detect lost machines."""
    # A machine that is cut off sends nothing, and gloo's collectives wait half an hour for it, as for a slow rank. The
    # kernel of a slow rank still answers keep-alives: only the lost machine is detected.
    if dist.is_initialized():
        watch_connections()


def watch_connections() -> None:
    """Make the connections that are open now fail after ``SILENCE_S`` of silence from the other end."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in the meantime
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
    # Keep-alives are not sent while sent data waits for an answer: this limits that case.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone, which reports its own reason."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def explain_lost_rank(error: BaseException) -> str | None:
    """Return the meaning of an error that only says that another rank is gone; None for any other error."""
    if not is_lost_rank(error):
        return None
    reason = str(error).split("] ")[-1].split(". ")[0].strip()
    return f"another process of the run ended, and reports why itself, or its machine is cut off ({reason})."


def let_cause_report_first(error: BaseException) -> None:
    """Delay the report of an error that is not this rank's own, so that the rank that failed first reports."""
    # torchrun ends the other ranks once one has failed. Wrong use is the same on every rank, and the first rank of each
    # machine reports it. A rank that still lives after some seconds reports too, so that no error is lost.
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    is_reported_by_first = isinstance(error, UsageError) and os.environ.get("LOCAL_RANK", "0") != "0"
    if is_reported_by_first or is_lost_rank(error):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torchrun's signal must end it without a message
        if unanswered_signal() == signal.SIGTERM:  # it came before the error, and comes once
            signal.raise_signal(signal.SIGTERM)
        time.sleep(_PATIENCE_S)
    get_error_handler().record_exception(error)  # for torchrun's summary


def leave(code: int) -> NoReturn:
    """End this process with an exit code, without finalizing Python."""
    # A thread of gloo releases the tensors of the last collective at a time of its own, and needs Python for it. During
    # finalization Python would end that thread in the middle of C++, which aborts the process (SIGABRT) after its work.
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # the launcher, which reads the output, may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
