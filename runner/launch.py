"""``torchrun`` with prefixed output per rank, clean signals, and the exit code of the rank that failed first."""

# ruff: noqa: E402 - signals must be handled before torch is imported, which takes seconds
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from .processes.exit_codes import FAILED, INTERRUPTED, PREEMPTED


def _exit_early(number: int, frame: object) -> None:
    """End this process, which has not started any other yet."""
    # In a signal handler: print is not reentrant, and code that is being imported could catch SystemExit.
    os.write(2, f"assay: stopped by {signal.Signals(number).name} before anything was saved; start it again\n".encode())
    os._exit(PREEMPTED)


if __name__ == "__main__":  # until torchrun sets its own handlers, when it starts its first process
    for _number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(_number, _exit_early)

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.elastic.rendezvous import RendezvousError

from .processes.process_exit import watch_connections

# Defaults of torchrun's flags. Without SIGUSR1 among its signals, it would end torchrun and the ranks at once.
_DEFAULTS = {
    "PET_TEE": "3",
    "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] ",
    "PET_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1",
}

_WATCH_EVERY_S = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``torchrun`` with these arguments, by default those of the command line.

    Returns:
        0; the exit code of the rank that failed first, or 128 plus its signal; 130 after Ctrl-C and 75 after another
        signal, both after the ranks had time to save; 1 if the machines did not find or lost each other.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "LOGLEVEL" not in os.environ:
        logging.disable(logging.ERROR)  # torchrun's log and its list of failures would hide the ranks' own messages
    threading.Thread(target=_watch_machines, daemon=True).start()
    try:
        _run_torchrun(None if arguments is None else list(arguments))
    except ChildFailedError as error:
        return _report_failure(*error.get_first_failure())
    except SignalException as error:
        return INTERRUPTED if error.sigval == signal.SIGINT else PREEMPTED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (RendezvousError, ConnectionError, TimeoutError) as error:
        sys.stderr.write(f"assay: error: the machines did not find each other, or lost each other: {error}\n")
        return FAILED
    return 0


@record
def _run_torchrun(arguments: list[str] | None) -> None:
    # As torchrun's own main, but without abbreviations: it would take --n of an experiment for a flag of its own.
    parser = run.get_args_parser()
    parser.allow_abbrev = False
    run.run(parser.parse_args(arguments))


def _watch_machines() -> None:
    # The launchers of a run have connections of their own, which would wait half an hour for a lost machine.
    while True:
        watch_connections()
        time.sleep(_WATCH_EVERY_S)


def _report_failure(rank: int, failure: ProcessFailure) -> int:
    """Report the rank that failed first, whose own message stands above, and return the exit code."""
    code = failure.exitcode
    how = f"ended with exit code {code}" if code > 0 else f"was ended by {failure.signal_name()}"
    sys.stderr.write(f"assay: rank {rank} {how}; that ends the run\n")
    return code if code > 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
