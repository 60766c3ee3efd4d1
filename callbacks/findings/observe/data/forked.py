"""Do work in a forked child, which leaves no trace in this process, and take what it sends as it comes."""

import faulthandler
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import torch

from .cut_off import cut_off

Send = Callable[[Any], None]

_PATIENCE = 60  # seconds without a message after which a child without a deadline is given up


def can_fork() -> bool:
    """Whether a child can be forked that is cut off this process: on Linux, and outside of a pool's workers."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def messages_of(works: Sequence[Callable[[Send], None]], seconds: float | None = None) -> Iterator[Any]:
    """Yield what each ``work(send)`` sends in a forked child of its own, until it ends, dies, or its time is over.

    A child draws its own random numbers, prints nothing, touches no GPU, and has its own copy of everything else.

    Args:
        works: each is called in a child; what it raises ends it silently.
        seconds: after which they are ended; None: they may take as long as they go on sending.
    """
    children: dict[Connection, BaseProcess] = {}
    try:
        for work in works:
            receiver, child = _fork(work, seconds)
            children[receiver] = child
        yield from _received(list(children), seconds)
    finally:
        for receiver, child in children.items():
            _end(child)
            receiver.close()


def _fork(work: Callable[[Send], None], seconds: float | None) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_work_apart, args=(work, sender, seconds))
    try:
        with warnings.catch_warnings():
            # Of threads in a process that forks, as loaders do as well.
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
    except OSError:
        receiver.close()
        raise
    finally:
        sender.close()
    return receiver, child


def _received(receivers: list[Connection], seconds: float | None) -> Iterator[Any]:
    deadline = None if seconds is None else time.monotonic() + seconds
    while receivers:
        ready = wait(receivers, _PATIENCE if deadline is None else max(0.0, deadline - time.monotonic()))
        if not ready:
            return
        for receiver in ready:
            try:
                content = receiver.recv_bytes()  # type: ignore[union-attr]
            except (EOFError, OSError):  # its child has ended, perhaps in the middle of a message
                receivers.remove(receiver)  # type: ignore[arg-type]
                continue
            message = _unpickled(content)
            if message is not None:
                yield message


def _unpickled(content: bytes) -> Any:
    try:
        return pickle.loads(content)
    except Exception:  # noqa: BLE001 - a batch of the user's class may raise anything
        return None


def _end(child: BaseProcess) -> None:
    child.join(0.2)
    if child.exitcode is None:
        child.kill()
        child.join()
    child.close()


def _work_apart(work: Callable[[Send], None], sender: Connection, seconds: float | None) -> None:
    try:
        # It ends by itself where its parent was killed.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, (seconds or _PATIENCE) + 1)
        _calm_down()
        work(lambda message: _send(sender, message, seconds))
    except BaseException:  # noqa: BLE001 - nothing may leave the child
        os._exit(1)
    # Without what Python does at an end: that is the parent's to do.
    os._exit(0)


def _send(sender: Connection, message: Any, seconds: float | None) -> None:
    try:
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001 - a batch of the user's class may raise anything
        return
    if seconds is None:
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE + 1)
    sender.send_bytes(content)


def _calm_down() -> None:
    """Silence the child, and leave to the parent what is the parent's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.disable()  # it writes to a file of its own
    gc.freeze()  # the parent's objects are not to be finalized here
    silent = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silent, descriptor)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - closed with the process
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    cut_off()
    # As in a loader's worker: threads of the parent do not live here.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
