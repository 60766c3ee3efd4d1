"""What a failure outside the program means, in one line that says what to do."""

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .bad_images import NoGoodImageError
from .finite_weights import BrokenWeightsError
from .images import BadImageError
from .lone_samples import explain_lone_sample
from .worker_start import WorkerStartError

_NO_ROOM_TO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_SAVED = "The run has a checkpoint."
_WORKER = re.compile(
    r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)"
    r"(?: is killed by signal: ([\w ]+)| exited unexpectedly with exit code (\d+))?"
)


def explain(error: BaseException) -> str | None:
    """Return what a failed run's error means to its user; None where it is not one of these.

    They are an image that cannot be read, weights that are not finite, a batch of one sample that cannot be normalized,
    a loader worker that was killed, a GPU that refused a value or whose memory ran out, and a disk that is full or
    takes no more writes.
    """
    if isinstance(error, BadImageError):
        hint = "" if isinstance(error, NoGoodImageError) else " --on-bad-image skip leaves such samples out."
        return f"{error}.{hint}"
    if isinstance(error, BrokenWeightsError):
        return str(error)
    if isinstance(error, WorkerStartError):
        return f"{error}."
    if (meaning := explain_lone_sample(error, _place(error))) is not None:
        return meaning
    if isinstance(error, RuntimeError) and "device-side assert" in str(error):
        return (
            f"the GPU refused a value{_place(error)}, mostly a target that is no class: --device cpu names it. "
            f"({str(error).splitlines()[0]}.)"
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU's memory ran out{_place(error)}: lower --batch-size, and raise --accumulate-steps by the same "
            f"factor to train alike; --precision bf16 takes less as well. ({str(error).split('. ')[0]}.)"
        )
    # torch puts an error without the signal on top of the one that has it.
    if isinstance(error, RuntimeError) and (worker := _WORKER.match(str(error.__cause__)) or _WORKER.match(str(error))):
        pid, signal, code = worker.groups()
        if code is not None:
            return (
                f"loader worker {pid} ended with exit code {code}{_place(error)}: what it printed says why. "
                "--workers 0 reads the data in the run's own process, and shows the error there."
            )
        return (
            f"loader worker {pid} was killed{f' ({signal})' if signal else ''}{_place(error)}. Mostly memory ran out, "
            "the machine's or that of /dev/shm, by which workers hand over batches: lower --workers or --batch-size."
        )
    if isinstance(error, OSError) and _is_failed_write(error):
        path = os.fsdecode(error.filename)
        advice = "--resume goes on with the run" if _SAVED in _notes(error) else "nothing is saved that could go on"
        return f"{path} cannot be written{_place(error)}: {error.strerror}. {advice}."
    return None


def _is_failed_write(error: OSError) -> bool:
    name = os.path.basename(os.fsdecode(error.filename or ""))
    return bool(name) and (error.errno in _NO_ROOM_TO_WRITE or name.startswith("events.out.tfevents"))


def note_place(error: BaseException, place: str) -> None:
    """Note on an error where in the run it was raised."""
    error.add_note(f"Raised in {place}.")


def note_checkpoint(error: BaseException, is_there: bool) -> None:
    """Note on an error that its run has a checkpoint, where there is one."""
    if is_there:
        error.add_note(_SAVED)


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", []))


def _place(error: BaseException) -> str:
    notes = [note for note in _notes(error) if note.startswith("Raised in ")]
    return f" in {notes[0].removeprefix('Raised in ').removesuffix('.')}" if notes else ""


@contextmanager
def quiet_event_threads() -> Iterator[None]:
    """Keep the threads of event files from printing an error that their writer raises in the run anyway."""
    before = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard"):
            before(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
