"""Explain failures outside the program in one line, with advice."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from assay.callbacks.non_finite.report import NonFiniteError

from ..data.bad_images import NoGoodImageError
from ..data.files.image_errors import BadImageError
from ..data.worker_start import WorkerStartError
from .checks.finite_weights import BrokenWeightsError
from .parts.lone_samples import explain_lone_sample

_NO_ROOM_TO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_NON_FINITE = (
    "Often a smaller --lr or --clip-grad-norm 1 helps; --non-finite skip leaves such steps out, and --detect-anomaly "
    "true finds the operation."
)
_SAVED = "The run has a checkpoint."  # a note, added where the run is known and read where the error is printed
# torch's messages for a worker that was killed by a signal, or has ended by itself.
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)"
    r"(?: is killed by signal: ([\w ]+)| exited unexpectedly with exit code (\d+))?"
)


def explain(error: BaseException) -> str | None:
    """Return what a failed run's error means to its user; None for errors that explain themselves.

    Explained are an unreadable image, weights, losses and gradients that are not finite, a batch of one sample that
    cannot be normalized, a killed loader worker, a GPU that rejected a value or ran out of memory, and a disk that is
    full or read-only.
    """
    if isinstance(error, BadImageError):
        hint = "" if isinstance(error, NoGoodImageError) else " --on-bad-image skip leaves such samples out."
        return f"{error}.{hint}"
    if isinstance(error, BrokenWeightsError):
        return str(error)
    if isinstance(error, NonFiniteError):
        return f"{error}. {_NON_FINITE}"
    if isinstance(error, WorkerStartError):
        return f"{error}."
    if (meaning := explain_lone_sample(error, _place_of(error))) is not None:
        return meaning
    return _explain_gpu(error) or _explain_worker(error) or _explain_write(error)


def _explain_gpu(error: BaseException) -> str | None:
    if isinstance(error, RuntimeError) and "device-side assert" in str(error):
        return (
            f"the GPU rejected a value{_place_of(error)}, usually a target that is not a class: --device cpu names it. "
            f"({str(error).splitlines()[0]}.)"
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU's memory ran out{_place_of(error)}: lower --batch-size, and raise --accumulate-steps by the same "
            "factor to train alike; --precision bf16 needs less memory as well. "
            f"({str(error).split('. ')[0]}.)"
        )
    return None


def _explain_worker(error: BaseException) -> str | None:
    # torch raises an error without the signal from the one that names it.
    if not isinstance(error, RuntimeError) or not (
        worker := _WORKER.match(str(error.__cause__)) or _WORKER.match(str(error))
    ):
        return None
    pid, signal, code = worker.groups()
    if code is not None:
        return (
            f"loader worker {pid} ended with exit code {code}{_place_of(error)}: what it printed says why. "
            "--workers 0 reads the data in the run's own process, and shows the error there."
        )
    return (
        f"loader worker {pid} was killed{f' ({signal})' if signal else ''}{_place_of(error)}. Usually memory ran out, "
        "the machine's or that of /dev/shm, through which workers pass batches on: lower --workers or --batch-size."
    )


def _explain_write(error: BaseException) -> str | None:
    if not isinstance(error, OSError) or not _is_failed_write(error):
        return None
    path = os.fsdecode(error.filename)
    advice = "--resume continues the run" if _SAVED in _notes_of(error) else "nothing is saved to continue from"
    return f"{path} cannot be written{_place_of(error)}: {error.strerror}. {advice}."


def _is_failed_write(error: OSError) -> bool:
    # TensorBoard's writer thread raises with any errno, but always with the name of the event file.
    name = os.path.basename(os.fsdecode(error.filename or ""))
    return bool(name) and (error.errno in _NO_ROOM_TO_WRITE or name.startswith("events.out.tfevents"))


def note_place(error: BaseException, place: str) -> None:
    """Add a note to an error that names where in the run it was raised."""
    error.add_note(f"Raised in {place}.")


def note_checkpoint(error: BaseException, is_there: bool) -> None:
    """Add a note to an error that its run has a checkpoint, if it has one."""
    if is_there:
        error.add_note(_SAVED)


def _notes_of(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def _place_of(error: BaseException) -> str:
    notes = [note for note in _notes_of(error) if note.startswith("Raised in ")]
    return f" in {notes[0].removeprefix('Raised in ').removesuffix('.')}" if notes else ""


@contextmanager
def quiet_event_threads() -> Iterator[None]:
    """Keep TensorBoard's threads from printing errors that their writer also raises in the run."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard"):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
