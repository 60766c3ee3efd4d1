"""Commands that are printed to be typed again."""

import shlex
from pathlib import Path


def command(*words: str | Path) -> str:
    """Return a command line as a shell takes it, whatever its paths hold; a path is never taken for a flag."""
    return shlex.join(_not_a_flag(word) if isinstance(word, Path) else word for word in words)


def _not_a_flag(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)
