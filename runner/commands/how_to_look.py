"""How to look at runs: the command of TensorBoard, the address to open, and the report."""

import os
import shutil
import sys
from pathlib import Path

from ..processes.shell import command

_RUNS = "runs"
_REPORT = "report.html"
_PORT = 6006
_WIDTH = 80
# By default TensorBoard shows the pictures of ten epochs alone.
_ALL_PICTURES = ("--samples_per_plugin", "images=200")


def how_to_look(folder: Path) -> list[str]:
    """Return the lines that say how to look at a run.

    Args:
        folder: of the run.
    """
    address = f"http://localhost:{_PORT}"
    first, then = f"look at it: {_tensorboard(folder)}", f"then open {address}"
    together = f"{first}, {then}"
    lines = [together] if len(together) <= _WIDTH else [first, then]
    if (folder / _REPORT).exists():
        lines.append(f"or open {folder / _REPORT}")
    if os.environ.get("SSH_CONNECTION"):
        lines.append(f"over ssh, first run on your own machine: ssh -L {_PORT}:localhost:{_PORT} HOST")
    return lines


def _tensorboard(folder: Path) -> str:
    """Return the shortest command that shows a run, beside those of before where it is among them."""
    among_runs = folder.resolve().is_relative_to(Path(_RUNS).resolve())
    if among_runs and _has_target(Path("Makefile"), "tensorboard"):
        return "make tensorboard"
    return command(_program(), "--logdir", Path(_RUNS) if among_runs else folder, *_ALL_PICTURES)


def _has_target(makefile: Path, target: str) -> bool:
    return makefile.is_file() and any(line.startswith(f"{target}:") for line in makefile.read_text().splitlines())


def _program() -> str:
    """Return TensorBoard as the user can type it: the one beside this Python, where PATH has none."""
    beside = Path(sys.executable).with_name("tensorboard")
    if shutil.which("tensorboard") is not None or not beside.exists():
        return "tensorboard"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
