"""Freeze and unfreeze parameters while a run goes on, and fit the states of optimizers to what is frozen."""

import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.unwrap import by_name, eager_name, held_by, inside, plain_module, raw_optimizers

from ..parts.run_view import RunView
from .taken_states import check_optimizer_state, check_shapes

_log = logging.getLogger("assay")
_NAMED = 3


def frozen_parameters(runner: RunView) -> list[str]:
    """Return the names of the models' parameters that are frozen."""
    return [name for name, parameter in _parameters(runner) if not parameter.requires_grad]


def freeze_as_before(runner: RunView, frozen: Collection[str]) -> None:
    """Freeze those parameters and no others, and warn where that changes what is trained."""
    # Of what is unfrozen by plan nobody has to be told.
    planned = {name for it in runner.callbacks.values() for name in getattr(inside(it), "unfreezes", ())}
    differing = [name for name, parameter in _parameters(runner) if parameter.requires_grad == (name in frozen)]
    changed = [name for name in differing if name not in planned]
    for name, parameter in _parameters(runner):
        if parameter.is_floating_point():  # integers cannot be trained
            parameter.requires_grad_(name not in frozen)
    if changed and runner.engine.is_main_process:
        _log.warning("as when the checkpoint was saved, %s", " and ".join(_describe_changes(changed, frozen)))


class Unfreezing:
    """Follows which parameters are trained.

    Args:
        runner: whose models are prepared already.
    """

    def __init__(self, runner: RunView):
        self.parameters = dict(_parameters(runner))
        self.trained = self._flags()

    def follow(self, runner: RunView) -> None:
        """Make DDP anew where other parameters are trained than at the last call; warn of those without optimizer."""
        flags = self._flags()
        if flags == self.trained:
            return
        changed = zip(self.parameters.items(), self.trained, flags, strict=True)
        _warn_of_missing(runner, {name: part for (name, part), before, now in changed if now and not before})
        self.trained = flags
        # DDP reduces the gradients of those parameters that were trained when it was made, and of no others.
        if runner.engine.num_processes > 1:
            models = {name: runner.engine.prepare_anew(model) for name, model in by_name(runner.model).items()}
            runner.model = models if isinstance(runner.model, Mapping) else models[""]

    def _flags(self) -> list[bool]:
        return [parameter.requires_grad for parameter in self.parameters.values()]


def _warn_of_missing(runner: RunView, unfrozen: Mapping[str, nn.Parameter]) -> None:
    held = {name for part in raw_optimizers(runner.optimizer).values() for name in held_by(part, unfrozen)}
    missing = [name for name in unfrozen if name not in held]
    if missing and runner.engine.is_main_process:
        _log.warning(
            "%s unfrozen, and stays as it is: no optimizer has it; give the optimizer all parameters, frozen ones too",
            _first_names(missing),
        )


def _parameters(runner: RunView) -> Iterator[tuple[str, nn.Parameter]]:
    # Not of the moving average, which validation uses, and of which all is frozen.
    for key, model in by_name(runner.trained_model).items():
        for name, parameter in plain_module(runner.engine, model).named_parameters():
            yield eager_name(f"{key}.{name}" if key else name), parameter


def _describe_changes(changed: Collection[str], frozen: Collection[str]) -> list[str]:
    kinds = {
        "is frozen": [it for it in changed if it in frozen],
        "is trained": [it for it in changed if it not in frozen],
    }
    return [f"{_first_names(names)} {kind}" for kind, names in kinds.items() if names]


def _first_names(names: Collection[str]) -> str:
    more = len(names) - _NAMED
    return listing(list(names)[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def fitted_state(optimizer: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state for all parameters of an optimizer, from one that may lack the frozen ones, or whole groups.

    Raises:
        UsageError: the state is of other parameters.
    """
    check_optimizer_state(state)
    own = optimizer.state_dict()["param_groups"]
    (raw,) = raw_optimizers(optimizer).values()
    if len(state["param_groups"]) > len(own):
        raise UsageError(
            f"the checkpoint does not fit: its optimizer has {len(state['param_groups'])} groups of parameters, the "
            f"run's {len(own)}: give the optimizer all groups when it is made, also those that a callback adds later."
        )
    places: dict[int, int] = {}
    groups = []
    for saved, given, group in zip(state["param_groups"], own, raw.param_groups, strict=False):
        chosen = given["params"]
        # In older checkpoints an optimizer had the trained parameters alone, in the same order.
        if len(saved["params"]) < len(chosen):
            pairs = zip(chosen, group["params"], strict=True)
            chosen = [place for place, parameter in pairs if parameter.requires_grad]
        if len(saved["params"]) != len(chosen):
            raise UsageError(
                f"the checkpoint does not fit: a group of its optimizer has {len(saved['params'])} parameters, the "
                f"run's has {len(given['params'])}, of which {len(chosen)} are trained."
            )
        places.update(zip(saved["params"], chosen, strict=True))
        groups.append({**saved, "params": given["params"]})
    # Places count over all groups, so those after a gap have moved.
    moved = {places.get(place, place): of for place, of in state["state"].items()}
    for given, group in zip(own, raw.param_groups, strict=True):
        check_shapes(dict(zip(given["params"], group["params"], strict=True)), moved)
    # Groups that the checkpoint lacks, as a callback added them later, keep what they have now.
    return {**state, "state": moved, "param_groups": [*groups, *own[len(groups) :]]}


def load_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state, see ``fitted_state``.

    Raises:
        UsageError: the state is of other parameters, or of an optimizer of another kind.
    """
    (raw,) = raw_optimizers(optimizer).values()
    optimizer.load_state_dict(fitted_state(optimizer, state))
    # torch takes the options of a group as they are, and would miss one of another optimizer in the next step only.
    for group in raw.param_groups:
        if missing := sorted(raw.defaults.keys() - group.keys()):
            raise UsageError(
                f"the checkpoint does not fit: its optimizer is of another kind, without the {listing(missing)} of the "
                f"run's {type(raw).__name__}: resume with the optimizer that it was saved with."
            )
