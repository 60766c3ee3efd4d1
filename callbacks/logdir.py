"""Where a callback of any Catalyst runner writes files."""

from pathlib import Path

from catalyst import dl

from .errors import UsageError


def folder_in_run(runner: dl.IRunner, given: Path | None, name: str, asked_by: str) -> Path:
    """Return the folder given, or else the one of a name in the run's ``logdir``.

    Raises:
        UsageError: there is neither.
    """
    if given is not None:
        return given
    logdir = getattr(runner, "_logdir", None)
    if logdir is None:
        raise UsageError(f"{asked_by} needs a folder to write to: pass folder=..., or train(logdir=...).")
    return Path(logdir) / name
