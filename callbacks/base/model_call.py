"""ModelCall: another forward pass of a runner's model, with images that a callback chooses."""

from collections.abc import Mapping
from typing import Any

from catalyst import dl
from torch import Tensor, nn

from ..errors import UsageError, listing, unknown_name
from ..keys import pick
from ..support.runner_view import forward_of
from ..support.unwrap import by_name


class ModelCall:
    """Calls the model of any runner with images that a callback chooses.

    A runner with a method ``forward`` from a batch to its named outputs, as ``DictRunner`` and Catalyst's
    ``SupervisedRunner`` have, is asked to make the call. Otherwise the model is called with the images alone.

    Args:
        runner: the runner of a run that has started.
        model: name of one of several models; None: the only one, or all of them through ``forward``.
        image_key: key of the images in the batch.
        output_key: key of the output in what ``forward`` returns, or the model if it returns a dict.
        asked_by: name of the caller, for errors.

    Raises:
        UsageError: there is no such model, or none of several is named.
    """

    def __init__(self, runner: dl.IRunner, model: str | None, *, image_key: str, output_key: str, asked_by: str):
        self.models = by_name(runner.model)
        self.model = model
        self.by_runner = forward_of(runner) is not None
        self.image_key, self.output_key, self.asked_by = image_key, output_key, asked_by
        if model is not None and model not in self.models:
            known = [name for name in self.models if name]
            if not known:
                raise UsageError(
                    f"{asked_by}: the runner has one model, which needs no name: leave model={model!r} out."
                )
            raise unknown_name("model", model, known, f" of {asked_by}")
        # Only a ``forward`` of the runner knows how several models work together.
        if model is None and not self.by_runner and len(self.models) > 1:
            raise UsageError(
                f"{asked_by} must name which of the runner's models to explain, {listing(self.models)}: pass "
                f"model={min(self.models)!r}, for example."
            )

    def chosen(self, models: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
        """Return those of the given models that are explained, by name."""
        return dict(models) if self.model is None else {self.model: models[self.model]}

    def __call__(self, runner: dl.IRunner, parts: Mapping[str, Any]) -> Tensor:
        """Return the output for a batch that holds the images and further inputs.

        Raises:
            UsageError: the model does not take the images alone, or what it returns is no tensor.
        """
        forward = forward_of(runner)
        if forward is not None:
            outputs = forward(parts)
        else:
            outputs = self._call_with_images(
                next(iter(self.chosen(by_name(runner.model)).values())), parts[self.image_key]
            )
        if isinstance(outputs, Mapping):
            outputs = pick(outputs, self.output_key, self.asked_by, source_name="output of the model")
        if not isinstance(outputs, Tensor):
            raise UsageError(f"{self._advice()}: the model returned a {type(outputs).__name__}.")
        return outputs

    def _call_with_images(self, model: nn.Module, images: Tensor) -> Any:
        # Calling a model without all of its inputs raises a TypeError.
        try:
            return model(images)
        except TypeError as error:
            raise UsageError(f"{self._advice()}: the model does not take the images alone ({error}).") from error

    def _advice(self) -> str:
        return (
            f"{self.asked_by} must call the model again: give the runner a method forward(batch) that returns "
            f"{{{self.output_key!r}: ...}}"
        )
