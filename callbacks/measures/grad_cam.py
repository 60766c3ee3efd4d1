"""Grad-CAM maps of a layer, which leave no trace in the model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

import torch
from torch import Tensor, nn

from ..errors import UsageError
from ..support.buffer_snapshot import BufferSnapshot
from .explained_layer import Layer, find_layer
from .explained_score import explained_score
from .forward_watch import hooked
from .image_layouts import FORMS, Images

__all__ = ["REASONS", "Heat", "Layer", "explained_score", "find_layer", "grad_cam", "heat_maps", "undisturbed"]

REASONS = (  # in lines that a card of a third of a sheet shows
    "",
    "map is 0: nothing\nspeaks for it",
    "map is 0:\nno gradient",  # it is saturated, or there is no true class
    "map is 0:\nNaN or infinite",
)

_STEPS = 4  # points between the mean of the places and the activations, where gradients are averaged


@dataclass(frozen=True)
class Heat:
    """Maps of samples.

    Attributes:
        maps: [N, h, w], float32: the largest value of each map is 1, or the whole map is 0.
        reasons: [N], int64: which of ``REASONS`` a map is 0 for; 0 where it is not.
        scales: [N], float32: what the 1 of each map stands for, in units of the score; 0 where the map is 0. So
            ``maps * scales[:, None, None]`` can be compared between samples.
    """

    maps: Tensor
    reasons: Tensor
    scales: Tensor


def grad_cam(forward: Callable[[], Tensor], layer: Layer | nn.Module) -> Tensor:
    """Return the ``maps`` of ``heat_maps``."""
    return heat_maps(forward, layer).maps


def heat_maps(forward: Callable[[], Tensor], layer: Layer | nn.Module) -> Heat:
    """Return where the activations of a layer raise a score.

    Each channel of the layer is weighted by the mean gradient of the score, and their sum is cut at 0 (R. Selvaraju et
    al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017, equations 1 and 2).

    Of a layer that ``mixes`` the map is what each place adds to the score, cut at 0: with A_p the activation of a place
    and M the mean of all places, (A_p - M) times the gradient by A_p, which is averaged over ``_STEPS`` points between
    the one where all places are M and the activations (M. Sundararajan et al., "Axiomatic Attribution for Deep
    Networks", 2017, equation 3, of a layer and with M as the baseline). Before the cut the parts add up to the score
    less that of M.

    ``.grad`` of no tensor is touched.

    Args:
        forward: runs the model and returns one score per sample, [N], always of the same numbers of the output.
        layer: to explain by. The output of a module must be [N, C, h, w]; of several calls in a forward pass, the last
            one that the score depends on counts.

    Raises:
        UsageError: the layer has no such output, or the score does not depend on it.
    """
    layer = layer if isinstance(layer, Layer) else Layer(layer)
    calls: dict[int, Tensor] = {}
    scores = _run(forward, layer, partial(_keep_output, calls))
    images, name = Images(len(scores), *layer.image_shape), type(layer.module).__name__
    calls = {call: output for call, output in calls.items() if layer.layout.read(output, images) is not None}
    if not calls:
        raise UsageError(f"layer must be one whose output is {FORMS[layer.layout.kind]}: {name} gives none.")
    if not scores.requires_grad:
        raise UsageError(f"layer must be one that the output depends on: of {name} it does not, or is detached.")
    gradients = torch.autograd.grad(scores.sum(), list(calls.values()), allow_unused=True)
    used = [(*pair, gradient) for pair, gradient in zip(calls.items(), gradients, strict=True) if gradient is not None]
    if not used:
        raise UsageError(f"layer must be one that the output depends on: {name} is not.")
    call, output, gradient = used[-1]
    if layer.mixes:
        output = _offset_from_mean(layer, output, images)
        gradient = _mean_gradient(forward, layer, call, used[-1][1].detach(), output)
    with torch.no_grad():
        return _heat(_read(layer, output, images), _read(layer, gradient, images), by_place=layer.mixes)


def _run(forward: Callable[[], Tensor], layer: Layer, visit: Callable[[int, Tensor], Tensor]) -> Tensor:
    """Return the scores; ``visit`` receives the calls of the layer that count, and returns the output to go on with."""
    numbers = count()

    def hook(_module: nn.Module, _inputs: object, output: object) -> object:
        call = next(numbers)
        if not isinstance(output, Tensor) or not output.is_floating_point() or layer.call not in (None, call):
            return None
        return visit(call, output).clone()  # what follows may work in place

    with torch.enable_grad(), hooked([layer], hook):
        return forward()


def _keep_output(calls: dict[int, Tensor], call: int, output: Tensor) -> Tensor:
    if not calls:  # the graph begins here, so that nothing before the layer is kept for a backward pass
        output = output.detach().requires_grad_()
    if output.requires_grad:
        calls[call] = output
    return output


def _replace_output(wanted: int, point: Tensor, call: int, output: Tensor) -> Tensor:
    return point if call == wanted else output


def _offset_from_mean(layer: Layer, output: Tensor, images: Images) -> Tensor:
    """Return the output minus the one where all places have their mean; it is 0 at tokens that are no places."""
    output = output.detach().requires_grad_()
    with torch.enable_grad():
        places = _read(layer, output, images)
        # The gradient of a reading is the inverse of it: it puts places back where they are in the output.
        (found,) = torch.autograd.grad(places, output, places.detach() - places.detach().mean((2, 3), keepdim=True))
    return found


def _mean_gradient(forward: Callable[[], Tensor], layer: Layer, call: int, output: Tensor, way: Tensor) -> Tensor:
    """Return the mean gradient of the scores on the way from ``output - way`` to ``output``."""
    total = torch.zeros_like(output)
    for step in range(_STEPS):
        # Midpoints, which approximate the integral better than the ends of the steps.
        point = (output - way * (1 - (step + 0.5) / _STEPS)).requires_grad_()
        scores = _run(forward, layer, partial(_replace_output, call, point))
        total += torch.autograd.grad(scores.sum(), point)[0]
    return total / _STEPS


def _read(layer: Layer, part: Tensor, images: Images) -> Tensor:
    found = layer.layout.read(part, images)
    if found is None:
        raise UsageError(f"layer must be one whose output is {FORMS[layer.layout.kind]}, got {tuple(part.shape)}.")
    return found.float()


def _heat(activation: Tensor, gradient: Tensor, *, by_place: bool) -> Heat:
    weights = gradient if by_place else gradient.mean(dim=(2, 3), keepdim=True)
    maps = (weights * activation).sum(dim=1).clamp(min=0)
    largest = maps.amax(dim=(1, 2), keepdim=True)
    shown = ((largest > 0) & largest.isfinite()).reshape(-1)
    reasons = torch.where(gradient.any(dim=3).any(dim=(1, 2)), 1, 2).masked_fill_(~largest.isfinite().reshape(-1), 3)
    return Heat(
        torch.where(shown[:, None, None], maps / largest, 0.0),
        reasons.masked_fill_(shown, 0),
        largest.reshape(-1).masked_fill(~shown, 0.0),
    )


@contextlib.contextmanager
def undisturbed(models: Sequence[nn.Module]) -> Iterator[None]:
    """Put the models into eval mode, without gradients of their parameters, and restore everything afterwards.

    Restored are modes, ``requires_grad``, buffers bit by bit, and the state of random numbers.
    """
    modules = list(dict.fromkeys(module for model in models for module in model.modules()))
    modes = [(module, module.training) for module in modules]
    asking = {p for module in modules for p in module.parameters(recurse=False) if p.requires_grad}
    buffers = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None
    ]
    contents = BufferSnapshot(buffer for _, _, buffer in buffers)
    contents.take()
    # Compiled code does not call the hooks of layers that are set later.
    with torch.random.fork_rng(), torch.compiler.set_stance("force_eager"):
        try:
            for parameter in asking:
                parameter.requires_grad_(False)
            for model in models:
                model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter in asking:
                parameter.requires_grad_(True)
            # A module may have assigned a new tensor: the old one comes back before its content does.
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            contents.restore()
