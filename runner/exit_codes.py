"""How ``assay`` ends, for those who call it."""

import signal

FAILED, USAGE, PREEMPTED, INTERRUPTED = 1, 2, 75, 130
"""A failed run; wrong use; ended by SIGTERM or SIGUSR1, to be gone on with (sysexits' EX_TEMPFAIL); by Ctrl-C."""


class StoppedError(Exception):
    """A run left by a signal, between two steps; ``--resume`` goes on with it.

    Args:
        message: what has to be said, in one line.
        number: of the signal.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message, number)
        self.message = message
        self.exit_code = INTERRUPTED if number == signal.SIGINT else PREEMPTED
