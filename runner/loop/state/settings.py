"""Compare what decides the course of a run: between its processes, and with the checkpoint that it resumes from."""

import hashlib
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from assay.callbacks.errors import UsageError
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.unwrap import by_name, raw_optimizers

from ..parts.run_view import RunView

_MISSING = "nothing"


def check_same_on_all(settings: Mapping[str, Any]) -> None:
    """Raise, on every rank, where the ranks differ in a setting; the message names it and each value. A collective."""
    # Ranks that differ would train apart, or wait for each other for ever.
    shown = {name: repr(value) for name, value in settings.items()}
    ranks: list[dict[str, str]] = gather_objects(shown)
    for name in dict.fromkeys(name for rank in ranks for name in rank):
        values = [rank.get(name, _MISSING) for rank in ranks]
        if len(set(values)) > 1:
            raise UsageError(f"the processes of a run must agree, and {name} is {_by_rank(values)}: start all alike.")


def _by_rank(values: Sequence[str]) -> str:
    """Return each value with the ranks that have it, the first ones in words."""
    found: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        found.setdefault(value, []).append(rank)
    parts = [f"{value[:80]} on rank {', '.join(map(str, ranks[:3]))}" for value, ranks in found.items()]
    return f"{', '.join(parts[:3])}{', and others' if len(parts) > 3 else ''}"


def short_checksum(content: bytes) -> str:
    """Return 8 digits by which files and layers of several processes are compared."""
    return hashlib.sha256(content).hexdigest()[:8]


def runner_settings(runner: RunView) -> dict[str, Any]:
    """Return what the processes of a run must agree on, before anything is set up."""
    settings: dict[str, Any] = {
        "seed": runner.seed,
        "num_epochs": runner.num_epochs,
        **{name: attrgetter(name)(runner) for name in runner.options_of_steps},
        "losses": [(term.label, term.weight) for term in runner.losses],
        "mixed precision": runner.engine.mixed_precision,
        "loaders": list(runner.get_loaders()),
        **loader_settings(runner),
    }
    for name, model in by_name(runner._model).items():
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        settings[_named("parameters of the model", name)] = sum(parameter.numel() for parameter in model.parameters())
        settings[_named("checksum of the layers of the model", name)] = short_checksum(repr(shapes).encode())
    for name, optimizer in raw_optimizers(runner._optimizer).items():
        settings[_named("optimizer", name)] = type(optimizer).__name__
        for index, group in enumerate(optimizer.param_groups):
            of = f" of group {index} of the optimizer" if len(optimizer.param_groups) > 1 else " of the optimizer"
            settings |= {_named(key + of, name): _plain(value) for key, value in group.items() if key != "params"}
    for name, scheduler in by_name(runner._scheduler).items():
        settings[_named("scheduler", name)] = type(scheduler).__name__
    return settings


def loader_settings(runner: RunView) -> dict[str, Any]:
    """Return what of the loaders decides about the steps: samples, batch size and batches of each."""
    settings: dict[str, Any] = {}
    for key, loader in runner.get_loaders().items():
        dataset: Any = loader.dataset
        settings[f"the number of samples of loader {key!r}"] = len(dataset)
        settings[f"batch_size of loader {key!r}"] = loader.batch_size
        settings[f"the number of batches of loader {key!r}"] = len(loader)
    return settings


def _named(setting: str, name: str) -> str:
    return f"{setting} {name!r}" if name else setting


def _plain(value: Any) -> Any:
    """Return a number of any kind as Python's, so that 0.1 is 0.1, and of an object its class."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def compare_with_checkpoint(before: Mapping[str, Any], now: Mapping[str, Any], *, within_epoch: bool) -> list[str]:
    """Return a warning for each setting of a runner that a checkpoint was made with and that differs now.

    Raises:
        UsageError: the run is to go on within an epoch, and one decides which batches are left of it.
    """
    warnings = []
    for name, was in before.items():
        is_now = now.get(name, _MISSING)
        if name == "num_epochs" or repr(was) == repr(is_now):
            continue
        text = f"{name} was {was!r:.80} when the checkpoint was made, and is {is_now!r:.80} now"
        if within_epoch and (" of loader " in name or name in ("loaders", "accumulate_steps", "seed")):
            raise UsageError(f"{text}: the run cannot go on within its epoch. Put it back, or start a new run.")
        held = "the checkpoint's holds on" if " of the optimizer" in name else "it holds from now on"
        warnings.append(f"{text}; {held}.")
    return warnings
