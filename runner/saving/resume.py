"""Find the run to resume after an elastic restart, and the newest intact checkpoint of a run."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from assay.callbacks.errors import UsageError
from assay.callbacks.support.distributed import from_main_rank, world_size

from .checkpoint_files import checkpoint_file, find_checkpoint, load_checkpoint, read_index
from .run_folder import ENVIRONMENT, launch_id

Value = TypeVar("Value")
_log = logging.getLogger("assay")


def decided_by_main_rank(decide: Callable[[], Value]) -> Value:
    """Run ``decide`` on the main rank, and return its result, or raise its ``UsageError``, on every rank."""
    # An error on the main rank alone would leave the others waiting in the collective below.
    value, error = None, None
    if world_size() == 1 or dist.get_rank() == 0:
        try:
            value = decide()
        except UsageError as found:
            error = found
    value, error = from_main_rank((value, error))
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def join_after_restart(*, on_cpu: bool) -> None:
    """Join the process group after an elastic restart, under keys of its own, before accelerate does."""
    # torchrun keeps its store through a restart. With torch 2.14 gloo finds the addresses of the previous processes
    # there, which no longer exist, and two of three restarts fail.
    count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if count == "0" or dist.is_initialized() or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != str(True):
        return
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)  # type: ignore[attr-defined]
    dist.init_process_group(
        "gloo" if on_cpu else "nccl",
        store=dist.PrefixStore(f"restart-{count}", store),  # type: ignore[attr-defined]
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


def restarted_run(run_dir: str | os.PathLike[str] | None, runs: Path) -> Path | None:
    """Return the folder of the run that this ``torchrun`` started, if it has restarted its processes; otherwise None.

    Args:
        run_dir: the only folder to consider; None: any in ``runs``.
        runs: the folder of the experiment's runs.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    folders = [Path(run_dir)] if run_dir is not None else sorted(runs.glob("*"), reverse=True)
    return next((folder for folder in folders if _launch_of(folder) == launch_id()), None)


def _launch_of(folder: Path) -> str | None:
    """Return the ``launch_id`` of a run when it started; None where it was not yet written."""
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return environment.get("launch") if isinstance(environment, dict) else None


def newest_checkpoint(
    run: str | os.PathLike[str], check: Callable[[dict[str, Any]], None] = lambda state: None
) -> Path:
    """Return the newest intact checkpoint of a run; a warning names each damaged one that is skipped.

    Args:
        run: a run folder, its ``checkpoints`` folder, or a checkpoint, which is then the only one considered.
        check: raises if the run cannot continue from an intact state.

    Raises:
        UsageError: there is none; if all are damaged, the message names the newest.
    """
    damaged: dict[int, str] = {}  # by inode, as best.pt and last.pt are links to the same file as an epoch's
    for path in _newest_first(Path(run)):
        key = path.stat().st_ino if path.is_file() else -1 - len(damaged)
        if key in damaged:
            continue
        try:
            state, moment = _load_with_moment(path)
        except UsageError as error:
            damaged[key] = str(error)
        else:
            for reason in damaged.values():
                _log.warning("%s Going on from %s, %s.", reason, path, moment)
            check(state)
            return path
    if damaged:
        raise UsageError(next(iter(damaged.values())))
    return find_checkpoint(run)


def _load_with_moment(path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint and its position in the run, in words; raise if this run cannot continue from it."""
    if not path.is_file():
        raise UsageError(f"checkpoint {path} is missing.")
    state = load_checkpoint(path)
    unfinished = state.get("unfinished")
    if unfinished is not None and (count := len(unfinished["ranks"])) != world_size():
        raise UsageError(
            f"checkpoint {path} was saved within an epoch by {count} processes, and {world_size()} cannot continue it."
        )
    return state, f"of {moment_of(state)}"


def moment_of(state: Mapping[str, Any]) -> str:
    """Return in words when a checkpoint was saved."""
    return f"epoch {state['epoch']}" if state.get("unfinished") is None else f"epoch {state['epoch'] + 1}, within it"


def _newest_first(run: Path) -> Iterator[Path]:
    """Yield checkpoints, newest first: those in the index, or without an index those in the folder."""
    if run.is_file():
        yield run
        return
    folder = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    entries = read_index(folder)
    for entry in sorted(entries, key=_sort_key):
        yield folder / entry["file"]
    if not entries:
        yield from sorted(folder.glob("epoch-*.pt"), reverse=True)
        yield from folder.glob("last.pt")


def _sort_key(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return the key that sorts index entries from the newest to the oldest."""
    # The end of an epoch is newer than every batch within it. Among equals, the epoch's own file is tried first.
    within = -entry["batch"] if "batch" in entry else -math.inf
    return (-entry["epoch"], within, entry["file"] != checkpoint_file(entry), entry["file"])
