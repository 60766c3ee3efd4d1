"""Freeze parameters by name, and train them from an epoch on."""

import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from catalyst import dl
from torch import nn
from tqdm import tqdm

from assay.callbacks.base.order import FIRST
from assay.callbacks.base.trained_marks import mark_frozen
from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.unwrap import by_name, plain_module

from .loaded import named_parameters

_MOST_PARTS = 8


def freeze(models: Mapping[str, nn.Module], pattern: str) -> list[str]:
    """Freeze the parameters in whose names a regular expression is found, and return those that were trained before.

    Args:
        models: by name; the only one is called ``""``.
        pattern: is searched for anywhere in a name, as ``re.search`` does.

    Raises:
        UsageError: it is found in no name, or nothing is left to train.

    Example:
        >>> net = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> freeze({"": net}, "^encoder")
        ['encoder.weight', 'encoder.bias']
    """
    parameters = dict(named_parameters(models))
    found = {name: parameter for name, parameter in parameters.items() if re.search(pattern, name)}
    if not found:
        raise UsageError(_nothing_found(pattern, parameters))
    frozen = [name for name, parameter in found.items() if parameter.requires_grad]
    if not any(parameter.requires_grad for name, parameter in parameters.items() if name not in found):
        raise UsageError(f"freeze {pattern!r} matches all {len(parameters)} parameters: nothing would be trained.")
    for name in frozen:
        found[name].requires_grad_(False)
    mark_frozen(found.values())
    return frozen


def _nothing_found(pattern: str, names: Collection[str]) -> str:
    parts = [name.split(".") for name in names]
    places = dict.fromkeys(".".join(part[:end]) for part in parts for end in range(1, len(part) + 1))
    own = dict.fromkeys(word for part in parts for word in part)
    # The expression's own signs are none of a name.
    plain = re.sub(r"[^\w.]", "", pattern.replace("\\", ""))
    close = get_close_matches(plain, [*places, *own], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    first = list(dict.fromkeys(part[0] for part in parts))
    if len(first) == 1:  # of one that is wrapped
        first = list(dict.fromkeys(".".join(part[:2]) for part in parts))
    more = f" and {len(first) - _MOST_PARTS} more" if len(first) > _MOST_PARTS else ""
    parts_of_model = listing(first[:_MOST_PARTS])
    return f"freeze {pattern!r} is found in no name of a parameter{hint} The model has {parts_of_model}{more}."


class Freezing(dl.Callback):
    """Keeps frozen parts as they are: normalization layers do not learn statistics either, until they are unfrozen.

    A BatchNorm within a module of which all parameters are frozen evaluates, so that it normalizes by the statistics
    that came with its weights. Dropout and the like go on as in training.

    Args:
        names: the parameters that ``freeze`` has frozen.
        unfreeze_epoch: the first epoch that trains them; None: none does.
    """

    def __init__(self, names: Sequence[str], unfreeze_epoch: int | None = None):
        super().__init__(order=FIRST)
        self.names = frozenset(names)
        self.unfreeze_epoch = unfreeze_epoch

    @property
    def unfreezes(self) -> Collection[str]:
        """The parameters that are to be trained one day, which is no surprise when a run goes on."""
        return () if self.unfreeze_epoch is None else self.names

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        if self.unfreeze_epoch is None or runner.epoch_step < self.unfreeze_epoch:
            return
        frozen = [it for name, it in named_parameters(_plain(runner)) if name in self.names and not it.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(True)
        if frozen and runner.engine.is_main_process:
            tqdm.write(f"epoch {runner.epoch_step}: {len(frozen)} frozen parameters are trained from now on")

    def on_loader_start(self, runner: dl.IRunner) -> None:
        # The runner has just set all modules to train.
        if runner.is_train_loader:
            for model in _plain(runner).values():
                for module in frozen_statistics(model):
                    module.eval()


def _plain(runner: Any) -> dict[str, nn.Module]:
    return {name: plain_module(runner.engine, model) for name, model in by_name(runner.trained_model).items()}


def frozen_statistics(model: nn.Module) -> list[nn.Module]:
    """Return the layers with running statistics that are within modules of which all parameters are frozen."""
    found: dict[nn.Module, None] = {}
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found |= dict.fromkeys(part for part in module.modules() if getattr(part, "track_running_stats", False))
    return list(found)
