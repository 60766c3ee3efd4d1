"""Create, describe and reopen the folder of a run."""

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import half_written, save_text

from .yaml_files import read_fields

if TYPE_CHECKING:
    import torch

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
_FINE_TUNING = "fine_tuning.json"
_PACKAGES = (
    "catalyst-assay", "catalyst", "torch", "torchvision", "accelerate", "torchmetrics", "albumentations", "numpy",
    "opencv-python-headless", "tensorboard",
)  # fmt: skip


class RunFolder:
    """A folder that holds exactly one run.

    Args:
        path: the folder.
        created: the folders that were created for it, innermost first; empty if it existed before.
    """

    def __init__(self, path: Path, *, created: Sequence[Path] = ()):
        self.path = path
        self.created = list(created)

    @classmethod
    def create(cls, path: str | os.PathLike[str] | None, experiment_name: str) -> "RunFolder":
        """Create the folder of a new run: ``path``, or ``runs/EXPERIMENT/YYYYmmdd-HHMMSS``, with a suffix if needed."""
        if path is not None:
            return cls._create_at(Path(path))
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        parent = Path("runs") / experiment_name
        for number in range(1, 1000):
            folder = parent / (stamp if number == 1 else f"{stamp}-{number}")
            created = _missing_folders(folder)
            try:
                folder.mkdir(parents=True)  # creating it claims the name: two runs may start in the same second
            except FileExistsError:
                continue
            return cls(folder, created=created)
        raise UsageError(f"{parent} holds 1000 runs of this second already; pass --run-dir.")

    @classmethod
    def _create_at(cls, path: Path) -> "RunFolder":
        check_new_folder(path)
        created = _missing_folders(path)
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, created=created)

    @classmethod
    def reopen(cls, path: Path) -> "RunFolder":
        """Open the folder of a resumed run, and remove files that a killed process left half-written."""
        for left_by_a_kill in half_written(path):
            left_by_a_kill.unlink()
        return cls(path)

    def write_config(self, fields: Mapping[str, Any]) -> None:
        """Write every field of the experiment to a file that ``--config`` accepts."""
        # In the order of the fields, as in --help.
        save_text(self.path / CONFIG, yaml.safe_dump(dict(fields), sort_keys=False))

    def write_environment(self, experiment: str, device: "torch.device", *, generated: bool) -> None:
        """Write the environment of the run: versions, commit, command line, host and devices."""
        environment = describe_environment(device) | {"experiment": experiment, "generated": generated}
        save_text(self.path / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")

    def discard(self) -> None:
        """Remove everything that the run created, after wrong use ended it before its first checkpoint."""
        for child in self.path.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        with contextlib.suppress(OSError):  # not empty: another run has started in one of them
            for folder in self.created:
                folder.rmdir()


def check_new_folder(path: Path) -> None:
    """Raise where a folder cannot become that of a new run."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--run-dir {path} must be a folder, and is a file.")
    if path.is_dir() and any(path.iterdir()):
        holds = "a run already" if (path / CONFIG).exists() else "other files"
        raise UsageError(f"--run-dir {path} holds {holds}: choose another, or continue a run with --resume.")


def check_weights_there(path: str | os.PathLike[str]) -> None:
    """Raise where a file or run folder to start from does not exist."""
    if not Path(path).exists():
        raise UsageError(f"weights must be a run folder or a file of weights, got {str(path)!r}: there is none.")


def _missing_folders(path: Path) -> list[Path]:
    """Return the folders that must be created for a path to exist, innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def write_fresh(run: Path, names: Sequence[str]) -> None:
    """Keep the names of the parameters that start anew while others are loaded, for when the run goes on."""
    save_text(run / _FINE_TUNING, json.dumps({"fresh": list(names)}) + "\n")


def read_fresh(run: Path) -> list[str]:
    """Return what ``write_fresh`` has kept; nothing where there is no such file."""
    path = run / _FINE_TUNING
    if not path.exists():
        return []
    try:
        return [str(name) for name in json.loads(path.read_text())["fresh"]]
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise _damaged_error(path, "it must list what is fresh.") from error


def has_checkpoint(run: Path) -> bool:
    """Whether a run folder holds a checkpoint to resume from."""
    return any((run / "checkpoints").glob("*.pt"))


def read_config(run: Path) -> dict[str, Any]:
    """Return the fields of a run."""
    path = _existing_file(run, CONFIG)
    try:
        return read_fields(path, what="it")
    except UsageError as error:
        raise _damaged_error(path, str(error)) from error


def check_run(run: Path) -> None:
    """Raise where a folder is no run folder."""
    if not run.is_dir():
        raise UsageError(f"{run} is not a run folder: there is no such folder.")
    read_config(run)


def read_environment(run: Path) -> dict[str, Any]:
    """Return the environment of a run; it is sure to name the ``experiment``."""
    path = _existing_file(run, ENVIRONMENT)
    try:
        environment = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:  # JSON that is nested too deeply recurses
        raise _damaged_error(path, f"it must be JSON: {' '.join(str(error).split())}.") from error
    if not isinstance(environment, dict) or not isinstance(environment.get("experiment"), str):
        raise _damaged_error(path, "it must name the experiment.")
    return environment


def _existing_file(run: Path, name: str) -> Path:
    if not (run / name).is_file():
        raise UsageError(f"{run} is not a run folder: it holds no {name}.")
    return run / name


def _damaged_error(path: Path, reason: str) -> UsageError:
    return UsageError(f"{path} is damaged: put a copy in its place, or start a new run; {reason}")


def describe_environment(device: "torch.device") -> dict[str, Any]:
    """Return versions, git commit, command line, host and devices as plain values."""
    import torch  # here, so that a wrong flag is answered without it

    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "launch": launch_id(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "device": str(device),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "git": _git_state(),
    }


def launch_id() -> str | None:
    """Return an id that all processes of one ``torchrun`` share, also after restarts; None without ``torchrun``."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # "none" is torchrun's default, and thus the same for all launches: the launcher's process id tells them apart.
    return f"{platform.node()}:{os.getppid()}" if name == "none" else name


def _package_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Return the commit of the current folder's repository and whether it has changes; None without a repository."""
    try:
        commit = _run_git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_run_git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(*arguments: str) -> str:
    # With a limit: a slow or locked repository must not hold up the run.
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
