"""Settings that the ranks of a run must share and a resumed run may change."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from assay.callbacks.support.unwrap import by_name, inside

from ..parts.run_view import RunView

_PLAIN = (bool, int, float, str)


def rank_settings(runner: RunView) -> dict[str, Any]:
    """Return by name what the ranks must agree on beside ``runner_settings``, before anything is set up."""
    # Where ranks differ in one of these they call other collectives, and wait for each other for ever, or train apart.
    settings: dict[str, Any] = {
        "the device": runner.engine.device.type,
        "whether there is a logdir": runner._logdir is not None,
        "what is best": (runner._valid_loader, runner._valid_metric, runner._minimize_valid_metric),
        "callbacks of assay": _names_of_assays(runner._callbacks or {}),
        "loss terms": [
            (term.output, term.target, term.criterion, _name_of(term.count) if term.count else None)
            for term in runner.losses
        ],
    }
    for key, loader in runner.get_loaders().items():
        settings[f"the sampler of loader {key!r}"] = _sampler(loader.batch_sampler)
    for name, model in by_name(runner._model).items():
        parameters = dict(model.named_parameters())
        frozen = [key for key, parameter in parameters.items() if not parameter.requires_grad]
        settings[f"the number of frozen parameters{_named(name)}"] = len(frozen)
        settings[f"the frozen parameters{_named(name)}"] = frozen
        settings[f"the types of parameters{_named(name)}"] = sorted({str(one.dtype) for one in parameters.values()})
    for name, criterion in by_name(runner._criterion).items():
        settings |= {f"{key} of the criterion{_named(name)}": value for key, value in _described(criterion).items()}
    for name, scheduler in by_name(runner._scheduler).items():
        plain = _plain_values(vars(scheduler))
        settings |= {f"{key} of the scheduler{_named(name)}": value for key, value in plain.items()}
    return settings


def _named(name: str) -> str:
    return f" of {name!r}" if name else ""


def _name_of(part: Any) -> str:
    return str(part if isinstance(part, str) else getattr(part, "__qualname__", type(part).__qualname__))


def _names_of_assays(given: Any) -> list[str]:
    """Return the names of assay's callbacks."""
    # These talk to other ranks. A user's may be on one rank alone, as one that prints.
    callbacks = given.values() if isinstance(given, Mapping) else given
    kinds = [type(inside(callback)) for callback in callbacks]
    return sorted(kind.__name__ for kind in kinds if kind.__module__.startswith("assay.callbacks."))


def _sampler(batch_sampler: Any) -> list[Any]:
    """Return the classes of a loader's samplers, and a checksum of what the inner one chooses from."""
    sampler = getattr(batch_sampler, "sampler", None)
    kinds = [type(batch_sampler).__name__, type(sampler).__name__]
    if not type(sampler).__module__.startswith("torch."):  # a user's draws for itself: the main rank's order is taken
        return kinds
    chosen = {
        name: _checksum(of) for name in ("weights", "indices") if (of := getattr(sampler, name, None)) is not None
    }
    return [*kinds, chosen, _plain_values(vars(sampler))]


def _checksum(values: Any) -> str:
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return hashlib.sha256(repr(values).encode()).hexdigest()[:8]


def _described(criterion: Any) -> dict[str, Any]:
    """Return the class of a criterion and of what is in it, with the plain attributes of each, by their places."""
    if isinstance(criterion, partial):
        return {"the function": _name_of(criterion.func), **_plain_values(criterion.keywords)}
    if not isinstance(criterion, nn.Module):
        return {"the function": _name_of(criterion)}
    described: dict[str, Any] = {}
    for place, part in criterion.named_modules():
        inside = f"{place}." if place else ""
        described[f"{inside}class"] = type(part).__name__
        described |= {f"{inside}{key}": value for key, value in _plain_values(vars(part)).items() if key != "training"}
    return described


def _plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and words among public attributes, of any kind of number as Python's."""
    taken = {
        key: value.item() if hasattr(value, "dtype") and value.ndim == 0 else value for key, value in values.items()
    }
    return {key: value for key, value in taken.items() if isinstance(value, _PLAIN) and not key.startswith("_")}
