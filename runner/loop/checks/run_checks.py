"""Refuse arguments, engines, loaders and batches that a run cannot work with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from assay.callbacks.errors import UsageError, listing

from ...data.sharding import count_rounds
from ...engine.engine import Engine

LOADER_KINDS = ("train", "valid", "infer")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise where the arguments of ``DictRunner.train`` do not go together."""
    # Catalyst's ``get_callbacks`` adds what these ask for, and this runner has one of its own.
    for name in ("check", "overfit", "timeit", "profile"):
        if options.get(name):
            raise UsageError(f"{name}=True is not supported by DictRunner: leave it out.")
    logdir = options.get("logdir")
    if logdir is None:
        if options.get("load_best_on_end"):
            raise UsageError("load_best_on_end=True needs a logdir, where the checkpoints are.")
        return
    if options.get("load_best_on_end") and not (options.get("valid_loader") and options.get("valid_metric")):
        raise UsageError("load_best_on_end=True needs valid_loader and valid_metric, by which it is chosen.")
    # A run goes on in its own folder; another one must not write over it.
    resume = options.get("resume")
    resumed = None if resume is None else _run_of(Path(resume).resolve())
    if _holds_run(Path(logdir)) and (resume is None or resumed not in (None, Path(logdir).resolve())):
        raise UsageError(f"logdir {str(logdir)!r} holds a run already: choose another, or pass resume={str(logdir)!r}.")


def check_steps(accumulate_steps: int, scheduler_step: str) -> None:
    """Raise where the steps of a ``DictRunner`` are out of range."""
    if accumulate_steps < 1:
        raise UsageError(f"accumulate_steps must be at least 1, got {accumulate_steps}.")
    if scheduler_step not in ("batch", "epoch"):
        raise UsageError(f"scheduler_step must be 'batch' or 'epoch', got {scheduler_step!r}.")


def check_engine(engine: Any) -> None:
    """Raise where an engine is not one of assay's, or would change the steps that the runner makes."""
    if not isinstance(engine, Engine):
        name = type(engine).__name__
        raise UsageError(
            f"engine must be one of assay's, got a {type(engine).__module__}.{name}: the engines of assay.runner have "
            "the names and arguments of Catalyst's, as in 'from assay.runner import CPUEngine'."
        )
    # accelerate would divide the loss by it, and the runner weighs each batch of a group by what it counts.
    if engine.gradient_accumulation_steps != 1:
        raise UsageError(
            f"gradient_accumulation_steps of the engine must be 1, got {engine.gradient_accumulation_steps}: give "
            "DictRunner accumulate_steps instead."
        )
    if engine.split_batches and engine.num_processes > 1:
        raise UsageError(
            f"split_batches=True is not supported by DictRunner: batch_size is that of one process; leave it out, "
            f"and divide batch_size by the {engine.num_processes} processes."
        )


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("metrics.csv", "checkpoints"))


def _run_of(path: Path) -> Path | None:
    """Return the folder of the run that a run folder, its checkpoints or a checkpoint belongs to; of a copy None."""
    return next(filter(_holds_run, (path, path.parent, path.parent.parent)), None)


def check_batch(batch: Any, loader_key: str) -> None:
    """Raise where a loader gives anything but dicts."""
    if not isinstance(batch, Mapping):
        raise UsageError(
            f"loader {loader_key!r} must give dicts, got a {type(batch).__name__}: let the data set return a dict an "
            "item, for example {'image': ..., 'target': ..., 'sample_id': ...}."
        )


def check_loaders(loaders: Mapping[str, Any], ranks: int) -> None:
    """Raise where one of the loaders is none that the runner can share out to so many processes."""
    for key, loader in loaders.items():
        check_loader(key, loader)
        # Checked here, where the ranks are known: the loader itself is not empty.
        if key.startswith("train") and count_rounds(loader, ranks) == 0:
            raise UsageError(
                f"loader {key!r} has no full round: {len(loader)} batches for {ranks} processes, and "
                "drop_last=True drops a round in which a process gets less than a batch."
            )


def check_loader(key: str, loader: Any) -> None:
    """Raise where a loader is none that the runner can share out."""
    if not key.startswith(LOADER_KINDS):
        raise UsageError(f"the name of a loader must begin with one of {listing(LOADER_KINDS)}, got {key!r}.")
    if not isinstance(loader, DataLoader):
        raise UsageError(f"loader {key!r} must be a torch DataLoader, got a {type(loader).__name__}.")
    if isinstance(loader.dataset, IterableDataset):
        raise UsageError(
            f"loader {key!r} must have a data set with a length and items by number, got an IterableDataset: its order "
            "cannot be shared out to processes, or drawn again."
        )
    if loader.batch_sampler is None:
        raise UsageError(f"loader {key!r} must make batches: give it a batch_size or a batch_sampler.")
    # A DistributedSampler already yields one rank's part: sharing it out again would leave a part of a part.
    if getattr(loader.sampler, "num_replicas", 1) > 1:
        raise UsageError(
            f"loader {key!r} must give all samples, got a {type(loader.sampler).__name__}: the runner shares them out "
            "to the processes by itself."
        )
    if len(loader) == 0:
        dataset: Any = loader.dataset
        raise UsageError(
            f"loader {key!r} is empty: its data set has {len(dataset)} items, batch_size is "
            f"{loader.batch_size} and drop_last is {loader.drop_last}."
        )
