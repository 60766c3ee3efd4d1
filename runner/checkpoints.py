"""Checkpoints: written whole or not at all, the best ones really of the best epochs."""

import contextlib
import hashlib
import json
import logging
import math
import os
import pickle
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from catalyst.core.callback import ICheckpointCallback

from assay.callbacks.distributed import from_main_rank
from assay.callbacks.errors import UsageError, listing, unknown_name

from .monitor import History, Monitor

FORMAT = "assay checkpoint 1"
INDEX = "index.json"
ON_SAVE_ERROR = ("stop", "warn")

_KEPT = 2  # newest epochs: where the last one's file is damaged, a resumed run goes on from the one before
_log = logging.getLogger("assay")

# What torch.load raises for bytes that are no checkpoint, or one that was cut off or changed.
_UNREADABLE = (
    AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Checkpoints(ICheckpointCallback):
    """Saves a checkpoint at the end of every epoch and keeps the last and the best.

    ============================ =====================================================================
    file                         content
    ============================ =====================================================================
    ``epoch-0003.pt``            the run after epoch 3; kept while it is one of the last two, or among the best
    ``last.pt``                  the same file as that of the last epoch
    ``best.pt``                  the same file as that of the best epoch by the first monitor
    ``index.json``               for each file its epoch, metric, value and sha256
    ============================ =====================================================================

    Each file is written under a temporary name and renamed, the index after the files that it names, and older files
    are removed last: a write that fails leaves the checkpoints of before as they are.

    Args:
        folder: where to write.
        monitors: metrics to choose by, each with its own best epochs; the first decides ``best.pt``.
        top_k: how many best epochs to keep by each monitor.
        extra: more entries for each checkpoint, in types that ``weights_only=True`` loads.
        load_best_on_end: whether the model has the best epoch's weights when the run has ended.
        on_save_error: what a write that fails does: ``stop`` the run, or ``warn`` and go on without this checkpoint.

    Raises:
        UsageError: an argument is out of range; at the end of the first epoch, when a monitor names no metric of the
            run.
        OSError: on every rank, when a checkpoint cannot be written; it names the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        monitors: Sequence[Monitor] = (),
        *,
        top_k: int = 1,
        extra: dict[str, Any] | None = None,
        load_best_on_end: bool = False,
        on_save_error: str = "stop",
    ):
        super().__init__()
        self.order = dl.CallbackOrder.External + 2  # what other callbacks remember and write belongs to it
        if top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {top_k}.")
        if on_save_error not in ON_SAVE_ERROR:
            raise unknown_name("on_save_error", on_save_error, ON_SAVE_ERROR)
        self.folder = Path(folder)
        self.monitors = list(monitors)
        self.top_k = top_k
        self.extra = extra or {}
        self.load_best_on_end = load_best_on_end
        self.on_save_error = on_save_error

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        for monitor in self.monitors:
            monitor.value(
                runner.history[runner.epoch_step]
            )  # a name that does not exist fails before anything is saved
        state = {"format": FORMAT, **runner.state_dict(), **self.extra}
        error = from_main_rank(self._save(state, runner) if runner.engine.is_main_process else None)
        if error is not None:
            raise error

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        best = self.folder / "best.pt"
        if self.load_best_on_end and best.exists():
            runner.load_model_state(validated_weights(load_checkpoint(best)))

    def _save(self, state: dict[str, Any], runner: dl.IRunner) -> OSError | None:
        """Return the error that is to end the run."""
        path = self.folder / epoch_file(runner.epoch_step)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_whole(path, lambda file: torch.save(state, file))
            self._update_index(runner.history)
        except OSError as error:
            if self.on_save_error == "stop":
                return error
            _log.warning("%s was not saved: %s cannot be written: %s.", path, error.filename, error.strerror)
        return None

    def _update_index(self, history: History) -> None:
        digests = {entry["file"]: entry["sha256"] for entry in read_index(self.folder)}
        newest = epoch_file(max(history))
        digests[newest] = _digest(self.folder / newest)
        entries = []
        for entry in self._wanted(history):
            source = epoch_file(entry["epoch"])
            if source in digests and entry not in entries:
                entries.append(entry)
        signed = [{**entry, "sha256": digests[epoch_file(entry["epoch"])]} for entry in entries]
        index = json.dumps({"checkpoints": signed}, indent=2) + "\n"
        save_whole(self.folder / INDEX, lambda file: file.write(index.encode()))
        for entry in entries:
            if entry["file"] != epoch_file(entry["epoch"]):
                _link_whole(self.folder / epoch_file(entry["epoch"]), self.folder / entry["file"])
        kept = {entry["file"] for entry in entries}
        left_by_a_kill = self.folder.glob(".*.tmp")
        for path in [*self.folder.glob("epoch-*.pt"), *left_by_a_kill]:
            if path.name not in kept:
                path.unlink()

    def _wanted(self, history: History) -> Iterator[dict[str, Any]]:
        """Yield an index entry for each file that is to be there, without its sha256."""
        for monitor in self.monitors:
            for epoch in monitor.ranking(history)[: self.top_k]:
                yield _entry(epoch_file(epoch), epoch, monitor, history)
        newest = sorted(history)[-_KEPT:]
        first = self.monitors[0] if self.monitors else None
        if first is not None and (best := first.best(history)) is not None:
            yield _entry("best.pt", best, first, history)
        for epoch in newest:
            yield _entry(epoch_file(epoch), epoch, first, history)
        yield _entry("last.pt", newest[-1], first, history)


def epoch_file(epoch: int) -> str:
    """Return the file name of an epoch's checkpoint."""
    return f"epoch-{epoch:04d}.pt"


def read_index(folder: Path) -> list[dict[str, Any]]:
    """Return file, epoch and sha256 of the entries of a folder's ``index.json``; none where there is no index."""
    path = folder / INDEX
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text())["checkpoints"]
        return [{"file": entry["file"], "epoch": int(entry["epoch"]), "sha256": entry["sha256"]} for entry in entries]
    except (ValueError, KeyError, TypeError) as error:
        reason = (
            f"{path} is not an index of checkpoints: {error}. Without the file, checkpoints are found by their names"
        )
        raise UsageError(f"{reason}.") from error


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
        if entry["file"] == name and (folder / epoch_file(entry["epoch"])).exists():
            return folder / epoch_file(entry["epoch"])
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
    if digests and digests != {_digest(path)}:
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


def save_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file under a temporary name and rename it, so that ``path`` is never half a file.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``.
    """
    try:
        with _replacing(path) as temporary, open(temporary, "wb", buffering=0) as file:
            guarded = _Guarded(file)
            write(guarded)
            guarded.finish()
    except OSError as error:
        error.filename = str(path)
        raise


class _Guarded:
    """A file that takes, and drops, what comes after a write that failed, and raises the error in the end.

    ``torch.save`` does not stand an error: it hides it behind one of its own, or ends the process.
    """

    def __init__(self, file: Any):
        self._file = file
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self._error is None and len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""

    def finish(self) -> None:
        if self._error is not None:
            raise self._error
        os.fsync(self._file.fileno())


def _link_whole(source: Path, path: Path) -> None:
    """Make ``path`` the same file as ``source``; a copy where the file system has no hard links."""
    with _replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sums(path: Path) -> None:
    """Compare each part of the archive with the checksum that it carries; ``torch.load`` does not."""
    with zipfile.ZipFile(path) as archive:
        if (part := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{part} was changed")


def _entry(file: str, epoch: int, monitor: Monitor | None, history: History) -> dict[str, Any]:
    metric = None if monitor is None else monitor.name
    value = math.nan if monitor is None else monitor.value(history[epoch])
    return {"file": file, "epoch": epoch, "metric": metric, "value": value if math.isfinite(value) else None}
