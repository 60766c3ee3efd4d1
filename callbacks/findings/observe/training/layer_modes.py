"""The modes and the statistics of the layers that behave differently in training."""

from collections.abc import Callable

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from ....support.host_copy import HostCopy
from ....support.unwrap import eager_name, plain_modules


class LayerModes:
    """Watches normalization over the batch and dropout while a model trains.

    Layers within a part of which no parameter is trained are left out: there the statistics belong to the weights.

    Args:
        runner: at the start of a training loader.
    """

    def __init__(self, runner: dl.IRunner):
        self._layers = _moded_layers(runner)
        self._evaluating: set[str] | None = None
        self._before = {name: mean.clone() for name, mean in self._means().items()}

    def look(self) -> None:
        """Take note of the modes within a training step."""
        found = {name for name, layer in self._layers.items() if not layer.training}
        self._evaluating = found if self._evaluating is None else self._evaluating & found

    @property
    def evaluating(self) -> tuple[str, ...]:
        """Names of the layers that were in evaluation mode each time."""
        return tuple(name for name in self._layers if name in (self._evaluating or ()))

    @torch.no_grad()
    def moved(self) -> Callable[[], bool | None]:
        """Return what tells whether any statistics have changed so far; None: there are none."""
        now = self._means()
        known = [name for name in self._before if name in now]
        if not known:
            return lambda: None
        differ = [(now[name] != self._before[name]).any() for name in known]
        copy = HostCopy(torch.stack([one.to(differ[0].device, non_blocking=True) for one in differ]), own=True)
        return lambda: any(copy.read().tolist())

    def _means(self) -> dict[str, Tensor]:
        means = {name: getattr(layer, "running_mean", None) for name, layer in self._layers.items()}
        # Those of a layer that takes its size from the first batch are not there yet.
        return {name: mean for name, mean in means.items() if isinstance(mean, Tensor) and not is_lazy(mean)}


def _moded_layers(runner: dl.IRunner) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    for key, model in plain_modules(runner).items():
        frozen = _within_frozen_parts(model)
        for name, layer in model.named_modules():
            if id(layer) not in frozen and _has_modes(layer):
                found[eager_name(f"{key}.{name}" if key else name)] = layer
    return found


def _has_modes(layer: nn.Module) -> bool:
    if isinstance(layer, _NormBase):
        return layer.track_running_stats
    return isinstance(layer, _DropoutNd) and layer.p > 0


def _within_frozen_parts(model: nn.Module) -> set[int]:
    found: set[int] = set()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.update(id(part) for part in module.modules())
    return found
