"""Load the models of a run for prediction, alone or as an ensemble, with test-time augmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import pick
from assay.callbacks.support.unwrap import by_name

from ..engine.engine import Engine
from ..experiment.base import Experiment
from ..experiment.model_options import prepare_model
from ..experiment.prediction_spec import Prediction
from ..loop.checks.finite_weights import check_finite_weights
from ..loop.dict_runner import DictRunner
from ..recipe.fine_tuning.pretrained import weights_follow
from .tta import Views

Weights = Mapping[str, Mapping[str, Tensor]]


class Models:
    """One model, or an ensemble for the same task.

    Args:
        experiment: the experiment of the run.
        prediction: names the input and the output of the model.
        weights: of each model, from ``validated_weights``.
        engine: decides device and precision.
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
        self.output_names: set[str] = set()  # of the model, once it has run
        self._runners = [_prepare_runner(experiment, prediction, of, engine) for of in weights]

    def outputs(self, images: Tensor) -> list[list[Any]]:
        """Return the outputs of each model for all views of images, one part per view.

        Args:
            images: [N, C, H, W], on any device.
        """
        # The model runs view by view, so that its activations take no more memory than without augmentation.
        views = self.views.augment(images.to(self.device, non_blocking=True)).split(len(images))
        return [[self._predict_view(runner, view) for view in views] for runner in self._runners]

    @property
    def module(self) -> Any:
        """The first model in evaluation mode, or its parts by name."""
        return self._runners[0].model

    def check_finite(self, sources: Sequence[str]) -> None:
        """Raise ``BrokenWeightsError`` where weights are not finite; ``sources`` names where each model's come from."""
        for runner, source in zip(self._runners, sources, strict=True):
            check_finite_weights(by_name(runner.model), source)

    def _predict_view(self, runner: DictRunner, images: Tensor) -> Any:
        outputs = runner.predict_batch({self.prediction.input_key: images})
        self.output_names.update(outputs)
        return pick(outputs, self.prediction.output_key, "get_prediction", "model's output")


def _prepare_runner(experiment: Experiment, prediction: Prediction, weights: Weights, engine: Engine) -> DictRunner:
    with weights_follow():
        made = experiment.get_model()
    model = prepare_model(
        made,
        engine.device,
        1,
        channels_last=experiment.channels_last,
        sync_batchnorm=False,
        compile_model=False,
    )
    keys = experiment.input_key
    if not isinstance(keys, str | Mapping):
        keys = [prediction.input_key]  # other inputs, such as a target, are not available: the model has defaults
    # A runner, so that the model is called exactly as in training: by names, in the engine's precision.
    runner = DictRunner(model, engine, input_key=keys)
    runner.load_model_state(weights)
    # After the weights are loaded, which are those of the plain model.
    parts = {name: engine.prepare_model(part, evaluation_mode=True).eval() for name, part in by_name(model).items()}
    runner.model = parts if isinstance(model, Mapping) else parts[""]
    return runner


def average_weights(weights: Sequence[Weights]) -> dict[str, dict[str, Any]]:
    """Return the mean of the weights of several models; values that are not floating point are the first model's.

    Raises:
        UsageError: shapes differ, or a tensor claims more numbers than its file holds.
    """
    first = _tensor_shapes(weights[0])
    for other in map(_tensor_shapes, weights[1:]):
        differing = [key for key in first.keys() | other.keys() if first.get(key) != other.get(key)]
        if differing:
            name, key = min(differing)
            raise UsageError(
                "--ensemble weights needs checkpoints of one architecture: their weights differ in shape, "
                f"{'.'.join(filter(None, (name, key)))} is {first.get((name, key))} and {other.get((name, key))}."
            )
    parts = weights[0].items()
    return {name: {key: _mean_tensor([of[name][key] for of in weights]) for key in tensors} for name, tensors in parts}


def _mean_tensor(tensors: Sequence[Any]) -> Any:
    first = tensors[0]
    if not isinstance(first, Tensor) or not first.is_floating_point():
        return first
    total = first.double()  # sums in half precision would round, and depend on the order of the checkpoints
    for tensor in tensors[1:]:
        total = total + tensor.double()
    return (total / len(tensors)).to(first.dtype)


def _tensor_shapes(weights: Weights) -> dict[tuple[str, str], tuple[int, ...] | None]:
    """Return the shape of each tensor, and None for extra state that is not a tensor."""
    return {(name, key): _tensor_shape(key, value) for name, values in weights.items() for key, value in values.items()}


def _tensor_shape(key: str, value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, Tensor):
        return None
    # An expanded tensor of a few bytes can claim terabytes, which the mean would allocate.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise UsageError(
            f"the weights {key} of a checkpoint have the shape {tuple(value.shape)}; its file holds fewer."
        )
    return tuple(value.shape)
