"""An exponential moving average of the weights, which often validates better than the weights themselves."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay.callbacks.errors import UsageError
from assay.callbacks.support.unwrap import by_name, load_weights, plain_module, weights_of


# Not by torch's AveragedModel: its first update copies the weights instead of averaging them, its exponential average
# also averages whole numbers such as BatchNorm's count of batches, and it names each weight "module.NAME", which the
# checkpoints written so far do not.
class MovingAverage:
    """The average of the weights of one or several models, as models of their own in eval mode.

    After step n each weight is ``d * average + (1 - d) * weight`` with ``d = min(decay, (1 + n) / (10 + n))``, so that
    the first steps count for little (the warm-up of TensorFlow's ``ExponentialMovingAverage``). Buffers of floating
    point, such as BatchNorm's, are averaged too; others are taken over. A step that a loss scaler or the guard
    against NaN has skipped counts too: the average moves on towards the weights as they are.

    Memory: one copy of the models.

    Args:
        models: by name, without what is wrapped around them; on their device.
        decay: above 0 and below 1, usually 0.99 to 0.9999.

    Raises:
        UsageError: the decay is out of range.
    """

    def __init__(self, models: Mapping[str, nn.Module], decay: float):
        if not 0 < decay < 1:
            raise UsageError(f"ema_decay must be above 0 and below 1, got {decay}.")
        self.decay = decay
        self.steps = 0
        self.sources = dict(models)
        self.models = {name: _copied(model) for name, model in models.items()}
        pairs = [
            pair
            for name, model in self.sources.items()
            for pair in zip(_tensors(self.models[name]), _tensors(model), strict=True)
        ]
        self._averaged = [(average, source) for average, source in pairs if source.is_floating_point()]
        # Integers, such as BatchNorm's number of batches, have no average.
        self._taken_over = [(average, source) for average, source in pairs if not source.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        # One call for all weights, and nothing is read from the device.
        averages, sources = (list(part) for part in zip(*self._averaged, strict=True))
        torch._foreach_lerp_(averages, [source.detach() for source in sources], weight)
        for average, source in self._taken_over:
            average.copy_(source, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the number of steps, in types that ``weights_only=True`` loads."""
        return {"steps": self.steps, "models": {name: weights_of(model) for name, model in self.models.items()}}

    def restart(self) -> None:
        """Begin anew from the weights as they are."""
        self.steps = 0
        for name, model in self.models.items():
            load_weights(model, weights_of(self.sources[name]))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self.steps = state["steps"]
        for name, model in self.models.items():
            load_weights(model, state["models"][name])


def prepared_average(models: Any, decay: float, engine: Any) -> MovingAverage:
    """Return the average of one model, or of several by name, that an engine has prepared; so prepared itself."""
    average = MovingAverage({name: plain_module(engine, model) for name, model in by_name(models).items()}, decay)
    for name, averaged in average.models.items():
        average.models[name] = engine.prepare_model(averaged, evaluation_mode=True)
    return average


def _copied(model: nn.Module) -> nn.Module:
    copied = copy.deepcopy(model).requires_grad_(False).eval()
    # What accelerate puts around ``forward`` for half precision would call the model that was copied.
    for name in ("forward", "_original_forward"):
        copied.__dict__.pop(name, None)
    return copied


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
