"""``torchrun`` as ``make train`` calls it: it marks the lines of each rank, and ends as the one that failed first."""

# ruff: noqa: E402 - signals have a meaning before torch is imported, which takes seconds
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from .exit_codes import FAILED, INTERRUPTED, PREEMPTED


def _leave(number: int, frame: object) -> None:
    """End this process, which has started no other yet."""
    os.write(2, f"assay: stopped by {signal.Signals(number).name} before anything was saved; start it again\n".encode())
    os._exit(PREEMPTED)


if __name__ == "__main__":  # torchrun has handlers of its own from its first process on
    for _number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(_number, _leave)

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.elastic.rendezvous import RendezvousError

from .rank import watch_connections

# What torchrun takes for flags that are not given. SIGUSR1 would end it at once, and with it the ranks.
_DEFAULTS = {
    "PET_TEE": "3",
    "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] ",
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
}

_WATCH_EVERY_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``torchrun`` with these arguments, by default those of the command line.

    Returns:
        0; the exit code of the rank that failed first, or 128 and its signal; 130 after Ctrl-C and 75 after another
        signal, which the ranks had time to save by; 1 where the machines did not find, or lost, each other.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "LOGLEVEL" not in os.environ:
        logging.disable(logging.ERROR)  # what torchrun does, and the list of failures: the ranks speak for themselves
    threading.Thread(target=_watch, daemon=True).start()
    try:
        _torchrun(None if arguments is None else list(arguments))
    except ChildFailedError as error:
        return _report(*error.get_first_failure())
    except SignalException as error:
        return INTERRUPTED if error.sigval == signal.SIGINT else PREEMPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (RendezvousError, ConnectionError, TimeoutError) as error:
        sys.stderr.write(f"assay: error: the machines did not find each other, or lost each other: {error}\n")
        return FAILED
    return 0


@record
def _torchrun(arguments: list[str] | None) -> None:
    """Do what ``torchrun`` does, without flags cut short: it takes ``--n`` of an experiment for one of its own."""
    parser = run.get_args_parser()
    parser.allow_abbrev = False
    run.run(parser.parse_args(arguments))


def _watch() -> None:
    """Notice a lost machine here too: the launchers of a run talk to each other."""
    while True:
        watch_connections()
        time.sleep(_WATCH_EVERY_S)


def _report(rank: int, failure: ProcessFailure) -> int:
    """Name the rank that failed first; what it said stands above."""
    code = failure.exitcode
    how = f"ended with exit code {code}" if code > 0 else f"was ended by {failure.signal_name()}"
    sys.stderr.write(f"assay: rank {rank} {how}; that ends the run\n")
    return code if code > 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
