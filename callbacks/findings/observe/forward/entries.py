"""``Entries``: what reaches the first layer of a model, beside the images that the model was given."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ...probe.model_probe import EntryProbe
from ..passes.batches import tensors_in

_MOST_CHANNELS = 16  # more are features, whose scale is the model's own
_EXACT = 2e-3  # of the deviation, what a scale and an offset in half precision leave over


class Entries:
    """Takes note of the images that models are given, and of what their first layer with weights is given.

    Used as a context. A model that changes size or order of its images shows nothing, but for torchvision's detectors,
    which say by which mean and deviation they normalize.

    Args:
        models: by name.
    """

    def __init__(self, models: Mapping[str, nn.Module]):
        self.models = models
        self._given: list[Tensor] = []
        self._entered: tuple[nn.Module, Tensor] | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Entries":
        for model in self.models.values():
            self._stack.callback(model.register_forward_pre_hook(self._keep_given, with_kwargs=True).remove)
            for module in model.modules():
                if next(module.parameters(recurse=False), None) is not None:
                    self._stack.callback(module.register_forward_pre_hook(self._keep_entered).remove)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def _keep_given(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        if not self._given:
            # Copies: models may work in place.
            self._given = [one.detach().clone() for one in tensors_in([args, kwargs]) if _is_image(one)]

    def _keep_entered(self, module: nn.Module, args: Any) -> None:
        if self._entered is None:
            tensor = next(tensors_in(args), None)
            if tensor is not None:
                self._entered = (module, tensor.detach().clone())

    @torch.no_grad()
    def found(self) -> EntryProbe | None:
        """Return by what images were scaled on their way; None where it is not known."""
        return next(self._of_detectors(), None) or self._scaled()

    def _scaled(self) -> EntryProbe | None:
        if self._entered is None or self._entered[1].is_complex():
            return None
        module, entered = self._entered
        same = [one for one in self._given if one.ndim == 4 and entered.shape in (one.shape, one.flatten(1).shape)]
        fits = (_fit(one.double(), entered.reshape(one.shape).double()) for one in same)
        scale, offset = next((fit for fit in fits if fit is not None), (None, None))
        if scale is None or offset is None:
            return None
        return _probe(same, scale.tolist(), offset.tolist(), type(module).__name__)

    def _of_detectors(self) -> Iterator[EntryProbe]:
        for model in self.models.values():
            for module in model.modules():
                mean, std = (getattr(module, name, None) for name in ("image_mean", "image_std"))
                if isinstance(mean, list | tuple) and isinstance(std, list | tuple) and self._given and all(std):
                    offset = [-centre / deviation for centre, deviation in zip(mean, std, strict=True)]
                    yield _probe(self._given, [1 / one for one in std], offset, type(module).__name__)


def _is_image(tensor: Tensor) -> bool:
    channels = tensor.shape[-3] if tensor.ndim in (3, 4) else 0
    return 0 < channels <= _MOST_CHANNELS and tensor.numel() > 0 and not tensor.is_complex()


def _fit(given: Tensor, entered: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return scale and offset of each channel, [C], by least squares; None where they do not explain what entered."""
    x, y = (one.movedim(1, 0).flatten(1) for one in (given, entered))
    means = x.mean(dim=1, keepdim=True), y.mean(dim=1, keepdim=True)
    x, y = x - means[0], y - means[1]
    scale = (x * y).sum(dim=1) / (x * x).sum(dim=1)
    left = (y - scale[:, None] * x).norm(dim=1) / y.norm(dim=1)
    # A channel of one value tells nothing: 0 by 0 is no number, which is less than none.
    return (scale, (means[1][:, 0] - scale * means[0][:, 0])) if bool((left < _EXACT).all()) else None


def _probe(given: list[Tensor], scale: list[float], offset: list[float], kind: str) -> EntryProbe:
    ends = torch.stack([torch.stack([*image.aminmax()]).double().cpu() for image in given])
    low, high = ends.quantile(0.5, dim=0).tolist()
    return EntryProbe(tuple(scale), tuple(offset), low, high, kind)
