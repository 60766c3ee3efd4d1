"""Going on with a run: which one after an elastic restart, and from which checkpoint."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist

from assay.callbacks.distributed import from_main_rank, world_size
from assay.callbacks.errors import UsageError

from .checkpoint_files import checkpoint_file, find_checkpoint, load_checkpoint, read_index
from .run_folder import ENVIRONMENT, launch_id

Value = TypeVar("Value")
_log = logging.getLogger("assay")


def decided_by_main_rank(decide: Callable[[], Value]) -> Value:
    """Return what ``decide`` returns on the main rank, on every rank; wrong use that it finds is raised on all."""
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
    """Join the group of an elastic restart, before accelerate does, under keys of its own.

    ``torchrun`` keeps its store through a restart, and with torch 2.14 gloo then finds the addresses of the processes
    before, which are gone: two of three restarts fail.
    """
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
    """Return the folder that this ``torchrun`` began its run in, where it has restarted its processes; else None.

    Args:
        run_dir: the only folder that it may be; None: any in ``runs``.
        runs: where the experiment's runs are.
    """
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        return None
    folders = [Path(run_dir)] if run_dir is not None else sorted(runs.glob("*"), reverse=True)
    return next((folder for folder in folders if _launched(folder) == launch_id()), None)


def _launched(folder: Path) -> str | None:
    """Return what ``launch_id`` was when a run began; None where it did not come so far."""
    try:
        environment = json.loads((folder / ENVIRONMENT).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return environment.get("launch") if isinstance(environment, dict) else None


def newest_checkpoint(
    run: str | os.PathLike[str], check: Callable[[dict[str, Any]], None] = lambda state: None
) -> Path:
    """Return the newest checkpoint of a run that is whole; a warning names each one that is passed over.

    Args:
        run: a run folder, its ``checkpoints`` folder, or a checkpoint, which is then the only one that will do.
        check: raises where the run cannot go on from a state that is whole.

    Raises:
        UsageError: there is none; where all are damaged, the newest is named.
    """
    damaged: dict[int, str] = {}  # by inode: several names may stand for one file
    for path in _newest_first(Path(run)):
        key = path.stat().st_ino if path.is_file() else -1 - len(damaged)
        if key in damaged:
            continue
        try:
            state, moment = _moment_of(path)
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


def _moment_of(path: Path) -> tuple[dict[str, Any], str]:
    """Return a checkpoint and when a checkpoint was saved, in words; raise where this run cannot go on from it."""
    if not path.is_file():
        raise UsageError(f"checkpoint {path} is missing.")
    state = load_checkpoint(path)
    if (unfinished := state.get("unfinished")) is None:
        return state, f"of epoch {state['epoch']}"
    if (count := len(unfinished["ranks"])) != world_size():
        raise UsageError(
            f"checkpoint {path} was saved within an epoch by {count} processes, and {world_size()} cannot go on there."
        )
    return state, f"of epoch {state['epoch'] + 1}, within it"


def _newest_first(run: Path) -> Iterator[Path]:
    """Yield the checkpoints that the index names, or that there are; of an epoch, its own file before others."""
    if run.is_file():
        yield run
        return
    folder = run / "checkpoints" if (run / "checkpoints").is_dir() else run
    entries = read_index(folder)
    for entry in sorted(entries, key=_age):
        yield folder / entry["file"]
    if not entries:
        yield from sorted(folder.glob("epoch-*.pt"), reverse=True)
        yield from folder.glob("last.pt")


def _age(entry: dict[str, Any]) -> tuple[Any, ...]:
    """Return what orders index entries from the newest on: an epoch's end is behind all that is within it."""
    within = -entry["batch"] if "batch" in entry else -math.inf
    return (-entry["epoch"], within, entry["file"] != checkpoint_file(entry), entry["file"])
