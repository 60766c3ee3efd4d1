"""Summarize an error of a data set in one line, also one that torch passes on from a loader worker as text."""

import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from .item_errors import RAISED_BY

_OURS = (Path(__file__).parent, Path(__file__).parents[1] / "callbacks")
_FRAME = re.compile(r'  File "(.+)", line \d+, in ')


def worker_error(error: BaseException) -> tuple[str, str] | None:
    """Return a worker's error as one line, and its traceback from the user's first frame.

    Args:
        error: of any kind; the result is None if it was not raised in a worker.
    """
    # torch raises the error again with the worker's traceback as its text: everything has to be parsed from that.
    lines = str(error).splitlines()
    if not lines or not re.match(r"Caught \w+ in DataLoader worker process", lines[0]):
        return None
    # The lines of the traceback are indented; those of the error follow.
    last = max((place for place, line in enumerate(lines) if line.startswith("  ")), default=0)
    users = (place for place, line in enumerate(lines) if (frame := _FRAME.match(line)) and _is_users_file(frame[1]))
    first = next(users, None)
    own = lines[last + 1 :]
    notes = [line for line in own if line.startswith(RAISED_BY)]
    message = one_line(" ".join(line for line in own if line not in notes), notes)
    return message, "" if first is None else "\n".join(lines[first : last + 1])


def one_line(message: str, notes: Sequence[str]) -> str:
    """Return the text of an error as one line, after the items that its notes name."""
    items = [note.removeprefix(RAISED_BY).removesuffix(".") for note in notes if note.startswith(RAISED_BY)]
    return " ".join(": ".join([*items[-1:], message]).split())


def _is_users_file(file: str) -> bool:
    path = Path(file)
    if "site-packages" in path.parts or "dist-packages" in path.parts or not path.is_absolute():
        return False
    return not any(path.is_relative_to(folder) for folder in (*_OURS, sysconfig.get_path("stdlib")))
