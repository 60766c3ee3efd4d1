"""Find and load the files of a checkpoint folder, without executing anything that they contain."""

import json
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.atomic_files import digest

from .checkpoint_state import FORMAT, check_state
from .plain_values import restore_state

__all__ = ["FORMAT", "INDEX"]

INDEX = "index.json"

# What torch.load raises for bytes that are no checkpoint, or one that was cut off or changed.
UNREADABLE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_FOLDER = 0x10  # of a part's attributes; torch reads zeros from what is a folder by it

# What NumPy makes its scalars and arrays by, which checkpoints of older versions may hold.
_KINDS = "?SUmM" + np.typecodes["AllFloat"] + np.typecodes["AllInteger"]
OF_NUMPY: list[Any] = [np.dtype, np.ndarray, *{type(np.dtype(kind)) for kind in _KINDS}] + [
    (getattr(multiarray, function), f"{package}.multiarray.{function}")
    for package in ("numpy.core", "numpy._core")
    for function in ("scalar", "_reconstruct")
]


def epoch_file(epoch: int) -> str:
    """Return the file name of an epoch's checkpoint."""
    return f"epoch-{epoch:04d}.pt"


def checkpoint_file(entry: Mapping[str, Any]) -> str:
    """Return the file name under which the checkpoint of an index entry was written."""
    file = epoch_file(entry["epoch"])
    return f"{Path(file).stem}-batch-{entry['batch']:04d}.pt" if "batch" in entry else file


def read_index(folder: Path) -> list[dict[str, Any]]:
    """Return file, epoch, sha256 and, within an epoch, batch of the entries of a folder's ``index.json``, if any."""
    path = folder / INDEX
    if not path.exists():
        return []
    try:
        return [_index_entry(entry) for entry in json.loads(path.read_text())["checkpoints"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) if not isinstance(error, KeyError) else f"it has no {error}"
        hint = "Without the file, checkpoints are found by their names."
        raise UsageError(f"{path} is not an index of checkpoints: {reason}. {hint}") from error


def _index_entry(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise TypeError(f"an entry must be a dict, got {entry!r:.80}")
    file, sha256 = entry["file"], entry["sha256"]
    if not isinstance(file, str) or Path(file).name != file:
        raise ValueError(f"'file' must be the name of a file in the folder, got {file!r:.80}")
    if not isinstance(sha256, str):
        raise TypeError(f"'sha256' must be a string, got {sha256!r:.80}")
    numbers = {name: entry[name] for name in ("epoch", "batch") if name == "epoch" or name in entry}
    for name, number in numbers.items():
        if type(number) is not int or number < 0:
            raise ValueError(f"{name!r} must be a number from 0 on, got {number!r:.80}")
    return {"file": file, "sha256": sha256, **numbers}


def find_checkpoint(run: str | os.PathLike[str], which: str = "last") -> Path:
    """Return the path of a run's checkpoint.

    Args:
        run: a run folder, its ``checkpoints`` folder, or a checkpoint file itself.
        which: ``last``, ``best``, or a file of the ``checkpoints`` folder.

    Raises:
        UsageError: there is no such file; the message says what there is.
    """
    path = Path(run)
    if path.is_file():
        return path
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    name = f"{which}.pt" if which in ("last", "best") else which
    for entry in read_index(folder):
        if entry["file"] == name and (folder / checkpoint_file(entry)).exists():
            return folder / checkpoint_file(entry)
    if (folder / name).exists():
        return folder / name
    there = listing(file.name for file in folder.glob("*.pt")) if folder.is_dir() else "no such folder"
    raise UsageError(f"{path} holds no checkpoint {name!r}; there is {there}.")


def load_checkpoint(run: str | os.PathLike[str], which: str = "last") -> dict[str, Any]:
    """Load a checkpoint to the CPU, without executing anything that it may contain.

    Args:
        run: see ``find_checkpoint``.
        which: see ``find_checkpoint``.

    Raises:
        UsageError: the file is missing, truncated, changed since it was written, not one of ours, or has a part that no
            run can take.
    """
    path = find_checkpoint(run, which)
    digests = {entry["sha256"] for entry in read_index(path.parent) if entry["file"] == path.name}
    if digests and digests != {digest(path)}:
        raise UsageError(f"checkpoint {path} was changed or cut off: its sha256 is not the one in {INDEX}.")
    return check_state(path, _read(path, is_whole=bool(digests)))


def _read(path: Path, *, is_whole: bool) -> Any:
    try:
        if not is_whole:  # else the sha256 of the index has shown it
            check_sums(path)
        # What torch remarks on foreign bytes is left out; the error says it all.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(OF_NUMPY):
            return restore_state(torch.load(path, map_location="cpu", weights_only=True))
    except UNREADABLE as error:
        if refused := refused_types(path):
            raise UsageError(
                f"checkpoint {path} is not one of assay's as it is now: it holds {refused}, which could run code, and "
                "is not loaded. Load it where that is defined, and save its weights alone: model.state_dict()."
            ) from error
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "weights_only" in reason or "Weights only" in reason:  # torch's advice to load it all the same
            reason = "its content is no plain data"
        raise UsageError(f"checkpoint {path} cannot be read; it is cut off or not one of assay's: {reason}") from error


def refused_types(path: Path) -> str:
    """Return the types in a file that are not loaded, as text; nothing where it is damaged, or no such file."""
    try:
        check_sums(path)
        with torch.serialization.safe_globals(OF_NUMPY):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNREADABLE:
        return ""
    return listing(names)[:200] if names else ""


def validated_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that a checkpoint was validated with, by model: the moving average, if there is one."""
    ema = state.get("ema")
    return dict(state["model"] if ema is None else ema["models"])


def check_sums(path: Path) -> None:
    """Compare each part of the archive with the checksum that it carries; ``torch.load`` does not."""
    with zipfile.ZipFile(path) as archive:
        folders = [info.filename for info in archive.infolist() if info.external_attr & _FOLDER]
        if (part := archive.testzip() or next(iter(folders), None)) is not None:
            raise zipfile.BadZipFile(f"{part} was changed")
