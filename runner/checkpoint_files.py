"""The files of a checkpoint folder: their names, their index, and loading them without executing anything."""

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

import torch

from assay.callbacks.errors import UsageError, listing

from .whole_files import digest

FORMAT = "assay checkpoint 1"
INDEX = "index.json"

# What torch.load raises for bytes that are no checkpoint, or one that was cut off or changed.
_UNREADABLE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


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
        entries = json.loads(path.read_text())["checkpoints"]
        return [_index_entry(entry) for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        reason = (
            f"{path} is not an index of checkpoints: {error}. Without the file, checkpoints are found by their names"
        )
        raise UsageError(f"{reason}.") from error


def _index_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {name: int(entry[name]) for name in ("epoch", "batch") if name == "epoch" or name in entry}
    return {"file": entry["file"], "sha256": entry["sha256"], **numbers}


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
        which: likewise.

    Raises:
        UsageError: the file is missing, truncated, changed since it was written, or not one of ours.
    """
    path = find_checkpoint(run, which)
    digests = {entry["sha256"] for entry in read_index(path.parent) if entry["file"] == path.name}
    if digests and digests != {digest(path)}:
        raise UsageError(f"checkpoint {path} was changed or cut off: its sha256 is not the one in {INDEX}.")
    try:
        if not digests:
            _check_sums(path)
        with warnings.catch_warnings(action="ignore"):  # what torch remarks on foreign bytes; the error says it all
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(f"checkpoint {path} cannot be read; it is cut off or not one of assay's: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UsageError(f"checkpoint {path} is not one of assay's: it has no entry format={FORMAT!r}.")
    return state


def validated_weights(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that a checkpoint was validated with, by model: the moving average, if there is one."""
    ema = state.get("ema")
    return dict(state["model"] if ema is None else ema["models"])


def _check_sums(path: Path) -> None:
    """Compare each part of the archive with the checksum that it carries; ``torch.load`` does not."""
    with zipfile.ZipFile(path) as archive:
        if (part := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{part} was changed")
