"""Check that a loaded checkpoint has every part of a run, each of the right type."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.callbacks.errors import UsageError, listing

FORMAT = "assay checkpoint 1"

_PARTS: dict[str, type] = {
    "model": dict,
    "optimizer": dict,
    "scheduler": dict,
    "epoch": int,
    "batch_step": int,
    "sample_step": int,
    "history": dict,
    "rng": list,
    "callbacks": dict,
    "loggers": dict,
}
_OPTIONAL = ("criterion", "settings", "scaler", "ema", "unfinished")  # dicts, or None
_UNFINISHED: dict[str, type] = {
    "loader": str,
    "loader_rounds": int,
    "epoch_rounds": int,
    "finished": dict,
    "ranks": list,
}
_RNG: dict[str, type] = {"python": tuple, "numpy": list, "torch": Tensor}


def check_state(path: Path, state: Any) -> dict[str, Any]:
    """Return a checkpoint's state as it is.

    Raises:
        UsageError: it is not a run's, and what it is; it lacks a part, or has one of a wrong type.
    """
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise UsageError(f"checkpoint {path} is not one of assay's: {_describe_foreign(state)}.")
    # All of it before a run takes any of it, so that a damaged file leaves the run as it was.
    _check(path, "", state, _PARTS)
    for name in _OPTIONAL:
        if state.get(name) is not None:
            _check(path, "", state, {name: dict})
    if state.get("ema") is not None:
        _check(path, "ema.", state["ema"], {"models": dict})
    for place, models in (("model", state["model"]), ("ema.models", (state.get("ema") or {}).get("models", {}))):
        _check(path, f"{place}.", models, dict.fromkeys(models, dict))
    _check(path, "callbacks.", state["callbacks"], dict.fromkeys(state["callbacks"], list))
    for rank, generators in enumerate(state["rng"]):
        _check(path, f"rng[{rank}].", generators, _RNG)
    if (unfinished := state.get("unfinished")) is not None:
        _check(path, "unfinished.", unfinished, _UNFINISHED)
        for rank, own in enumerate(unfinished["ranks"]):
            _check(path, f"unfinished.ranks[{rank}].", own, {"means": dict, "callbacks": dict})
    _check_history(path, state["history"])
    return state


def _check_history(path: Path, history: Mapping[Any, Any]) -> None:
    for epoch, loaders in history.items():
        if type(epoch) is not int:
            raise _damaged(path, "history", "hold numbers of epochs", epoch)
        _check(path, "", {f"history[{epoch}]": loaders}, {f"history[{epoch}]": dict})
        _check(path, f"history[{epoch}].", loaders, dict.fromkeys(loaders, dict))


def _check(path: Path, place: str, parts: Any, kinds: Mapping[Any, type]) -> None:
    if not isinstance(parts, Mapping):
        raise _damaged(path, place.rstrip("."), "be a dict", parts)
    for name, kind in kinds.items():
        if name not in parts:
            raise UsageError(f"checkpoint {path} is damaged: it has no {place}{name}.")
        part = parts[name]
        # A bool is an int in Python, and a count below 0 is damage too.
        if not isinstance(part, kind) or isinstance(part, bool) or (isinstance(part, int) and part < 0):
            raise _damaged(path, f"{place}{name}", f"be {_describe_kind(kind)}", part)


def _describe_kind(kind: type) -> str:
    return "a number from 0 on" if kind is int else f"a {kind.__name__}"


def _damaged(path: Path, place: str, rule: str, found: Any) -> UsageError:
    shown = repr(found) if isinstance(found, int | float | str | None) else f"a {type(found).__name__}"
    return UsageError(f"checkpoint {path} is damaged: {place} must {rule}, got {shown[:80]}.")


def _describe_foreign(state: Any) -> str:
    """Return what a foreign file holds, and how its weights can be used."""
    if not isinstance(state, dict):
        return f"it holds a {type(state).__name__}"
    use = "to start from its weights, load them in get_model"
    if state and all(isinstance(value, Tensor) for value in state.values()):
        return f"it holds the weights of a model alone; {use}"
    if "model_state_dict" in state:
        return f"it is one of Catalyst's, with {listing(state)}; {use}"
    if "state_dict" in state:
        return f"it is one of another trainer's, with {listing(state)[:200]}; {use}"
    return f"it has no entry format={FORMAT!r}"
