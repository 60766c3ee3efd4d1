"""Quote commands that users copy into a shell."""

import shlex
from pathlib import Path


def command(*words: str | Path) -> str:
    """Return a command line quoted for a shell; a path that begins with a dash is not taken for a flag.

    Example:
        >>> command("assay", "predict", Path("my run"), "--input", "tiles/*.tif")
        "assay predict 'my run' --input 'tiles/*.tif'"
    """
    return shlex.join(_not_a_flag(word) if isinstance(word, Path) else word for word in words)


def _not_a_flag(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)
