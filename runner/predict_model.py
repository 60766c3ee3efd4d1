"""The models of a run, ready to predict: from checkpoints, alone or together, seen from several views."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import pick
from assay.callbacks.unwrapped import by_name

from .dict_runner import DictRunner
from .engine import Engine
from .experiment import Experiment
from .finite_weights import check_finite_weights
from .model_options import prepare_model
from .predict_views import Views
from .prediction import Prediction

Weights = Mapping[str, Mapping[str, Tensor]]


class Models:
    """One model, or several with the same task.

    Args:
        experiment: what the run is of.
        prediction: what is given to a model, and taken from it.
        weights: of each model, by ``validated_weights``.
        engine: says device and precision.
        views: test-time augmentation.

    Raises:
        UsageError: weights do not fit the experiment's model.
    """

    def __init__(
        self,
        experiment: Experiment,
        prediction: Prediction,
        weights: Sequence[Weights],
        engine: Engine,
        views: Views,
    ):
        self.device: torch.device = engine.device
        self.views = views
        self.prediction = prediction
        self._runners = [_ready(experiment, prediction, of, engine) for of in weights]

    def outputs(self, images: Tensor) -> list[list[Any]]:
        """Return the output of each model for all views of images, in parts of as many as there are images.

        Args:
            images: [N, C, H, W], on any device.
        """
        views = self.views.augment(images.to(self.device, non_blocking=True)).split(len(images))
        return [[self._output(runner, view) for view in views] for runner in self._runners]

    def check_finite(self, sources: Sequence[str]) -> None:
        """Raise ``BrokenWeightsError`` where weights are not finite; ``sources`` says where those of each are from."""
        for runner, source in zip(self._runners, sources, strict=True):
            check_finite_weights(by_name(runner.model), source)

    def _output(self, runner: DictRunner, images: Tensor) -> Any:
        outputs = runner.predict_batch({self.prediction.input_key: images})
        return pick(outputs, self.prediction.output_key, "get_prediction", "model's output")


def _ready(experiment: Experiment, prediction: Prediction, weights: Weights, engine: Engine) -> DictRunner:
    model = prepare_model(
        experiment.get_model(),
        engine.device,
        1,
        channels_last=experiment.channels_last,
        sync_batchnorm=False,
        compile_model=False,
    )
    keys = experiment.input_key
    if not isinstance(keys, str | Mapping):
        keys = [prediction.input_key]  # without a target, say, for which the model has a default
    runner = DictRunner(model, engine, input_key=keys)
    runner.load_model_state(weights)
    parts = {name: engine.prepare_model(part, evaluation_mode=True).eval() for name, part in by_name(model).items()}
    runner.model = parts if isinstance(model, Mapping) else parts[""]
    return runner


def average_weights(weights: Sequence[Weights]) -> dict[str, dict[str, Tensor]]:
    """Return the mean of the weights of several models of the same shape; whole numbers are those of the first.

    Raises:
        UsageError: they are not of the same shape.
    """
    first = weights[0]
    for other in weights[1:]:
        if _shapes(other) != _shapes(first):
            raise UsageError("--ensemble weights needs checkpoints of one architecture: their weights differ in shape.")
    return {name: {key: _mean([of[name][key] for of in weights]) for key in tensors} for name, tensors in first.items()}


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([tensor.double() for tensor in tensors]).mean(dim=0).to(tensors[0].dtype)


def _shapes(weights: Weights) -> dict[tuple[str, str], torch.Size]:
    return {(name, key): tensor.shape for name, tensors in weights.items() for key, tensor in tensors.items()}
