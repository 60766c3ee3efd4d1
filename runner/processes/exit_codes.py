"""Exit codes."""

import signal

FAILED, USAGE, PREEMPTED, INTERRUPTED = 1, 2, 75, 130
"""A failed run; wrong use; stopped by SIGTERM or SIGUSR1, to be resumed (sysexits' EX_TEMPFAIL); stopped by Ctrl-C."""


class StoppedError(Exception):
    """A run stopped by a signal between two steps; ``--resume`` continues it.

    Args:
        message: one line for the user.
        number: of the signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message, number)  # with all arguments, or it could not be unpickled
        self.message = message
        self.exit_code = INTERRUPTED if number == signal.SIGINT else PREEMPTED
