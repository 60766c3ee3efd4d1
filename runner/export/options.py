"""What ``assay export`` is asked for, checked before torch is imported."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError, unknown_name

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""The formats, with the suffix of their files."""
OPSET = 18
"""What torch's translation to ONNX is written for: other opsets are converted from it."""
LEAST_OPSET, LAST_OPSET = 13, 23
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of ``assay export``.

    Attributes:
        run: the run folder.
        format: one of ``SUFFIXES``.
        output: the file; None: ``export/best.onnx`` in the run folder, by checkpoint and format.
        opset: of ONNX; None: ``OPSET``.
        checkpoint: ``best``, ``last``, or a file.

    Raises:
        UsageError: an option is unknown or out of range, the output is a folder, or a package is missing.
    """

    run: str
    format: str = "onnx"
    output: str | None = None
    opset: int | None = None
    checkpoint: str = "best"

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise unknown_name("--format", self.format, SUFFIXES)
        if self.opset is not None and self.format != "onnx":
            raise UsageError(f"--opset is for --format onnx: leave it out with {self.format}.")
        if self.opset is not None and not LEAST_OPSET <= self.opset <= LAST_OPSET:
            raise UsageError(f"--opset must be from {LEAST_OPSET} to {LAST_OPSET}, got {self.opset}.")
        if self.path.is_dir():
            raise UsageError(f"--output {self.output} must be a file, and is a folder.")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise UsageError("assay export runs on one process: start it without torchrun.")
        if self.format == "onnx":
            _check_packages()

    @property
    def path(self) -> Path:
        """The file to write."""
        if self.output is not None:
            return Path(self.output)
        return Path(self.run) / "export" / f"{Path(self.checkpoint).stem}{SUFFIXES[self.format]}"


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"--format onnx needs {', '.join(missing)}, which {verb} not installed: "
            'uv pip install "catalyst-assay[export]", or in a checkout: make setup.'
        )
