"""Grad-CAM: which places of an image a score depends on, without a trace in the model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..buffer_snapshot import BufferSnapshot
from ..errors import UsageError
from .explained_layer import Layer, find_layer, hooked
from .explained_score import explained_score
from .image_layouts import FORMS, Images

__all__ = ["REASONS", "Heat", "Layer", "explained_score", "find_layer", "grad_cam", "heat_maps", "undisturbed"]

REASONS = (
    "",
    "map is 0: nothing speaks for it",
    "map is 0: no gradient (saturated)",
    "map is 0: NaN or infinite",
)


@dataclass(frozen=True)
class Heat:
    """Maps of samples.

    Attributes:
        maps: [N, h, w], float32: the largest value of each map is 1, or the whole map is 0.
        reasons: [N], int64: which of ``REASONS`` a map is 0 for; 0 where it is not.
    """

    maps: Tensor
    reasons: Tensor


def grad_cam(forward: Callable[[], Tensor], layer: Layer | nn.Module) -> Tensor:
    """Return the ``maps`` of ``heat_maps``."""
    return heat_maps(forward, layer).maps


def heat_maps(forward: Callable[[], Tensor], layer: Layer | nn.Module) -> Heat:
    """Return where the activations of a layer raise a score.

    The channels of the layer are weighted by the mean gradient of the score, summed, and cut at 0 (R. Selvaraju et
    al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017, equations 1 and 2).
    Of tokens each place is weighted by its own gradient, which holds how much attention is paid to it (R. Draelos and
    L. Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", 2020).
    ``.grad`` of no tensor is touched.

    Args:
        forward: runs the model and returns one score a sample, [N].
        layer: to explain by; of a module the output has to be [N, C, h, w], and of several calls in a forward pass the
            last one that the score depends on counts.

    Raises:
        UsageError: the layer has no such output, or the score does not depend on it.
    """
    layer = layer if isinstance(layer, Layer) else Layer(layer)
    scores, outputs = _run(forward, layer)
    images, name = Images(len(scores), *layer.image_shape), type(layer.module).__name__
    outputs = [output for output in outputs if layer.layout.read(output, images) is not None]
    if not outputs:
        raise UsageError(f"layer must be one whose output is {FORMS[layer.layout.kind]}: {name} gives none.")
    if not scores.requires_grad:
        raise UsageError(f"layer must be one that the output depends on: of {name} it does not, or is detached.")
    gradients = torch.autograd.grad(scores.sum(), outputs, allow_unused=True)
    used = [pair for pair in zip(outputs, gradients, strict=True) if pair[1] is not None]
    if not used:
        raise UsageError(f"layer must be one that the output depends on: {name} is not.")
    with torch.no_grad():
        activation, gradient = (_read(layer, part, images) for part in used[-1])
        return _heat(activation, gradient, by_place=layer.layout.kind == "tokens")


def _run(forward: Callable[[], Tensor], layer: Layer) -> tuple[Tensor, list[Tensor]]:
    """Return the scores, and the outputs of the layer that a graph goes on from."""
    outputs: list[Tensor] = []
    calls = 0

    def keep(_module: nn.Module, _inputs: object, output: object) -> object:
        nonlocal calls
        calls += 1
        if not isinstance(output, Tensor) or not output.is_floating_point() or layer.call not in (None, calls - 1):
            return None
        if not outputs:  # the graph begins here: nothing before the layer is kept for a backward pass
            output = output.detach().requires_grad_()
        outputs.append(output)
        return output.clone()  # what follows may work in place

    with torch.enable_grad(), hooked([layer], keep):
        scores = forward()
    return scores, [output for output in outputs if output.requires_grad]


def _read(layer: Layer, part: Tensor, images: Images) -> Tensor:
    found = layer.layout.read(part.detach(), images)
    if found is None:
        raise UsageError(f"layer must be one whose output is {FORMS[layer.layout.kind]}, got {tuple(part.shape)}.")
    return found.float()


def _heat(activation: Tensor, gradient: Tensor, *, by_place: bool) -> Heat:
    weights = gradient if by_place else gradient.mean(dim=(2, 3), keepdim=True)
    maps = (weights * activation).sum(dim=1).clamp(min=0)
    largest = maps.amax(dim=(1, 2), keepdim=True)
    shown = ((largest > 0) & largest.isfinite()).reshape(-1)
    reasons = torch.where(gradient.any(dim=3).any(dim=(1, 2)), 1, 2).masked_fill_(~largest.isfinite().reshape(-1), 3)
    return Heat(torch.where(shown[:, None, None], maps / largest, 0.0), reasons.masked_fill_(shown, 0))


@contextlib.contextmanager
def undisturbed(models: Sequence[nn.Module]) -> Iterator[None]:
    """Have the models in eval mode and their parameters ask for no gradient, and leave all as it was.

    Put back are modes, what asked for a gradient, buffers bit by bit, and random numbers.
    """
    modules = list(dict.fromkeys(module for model in models for module in model.modules()))
    modes = [(module, module.training) for module in modules]
    asking = {p for module in modules for p in module.parameters(recurse=False) if p.requires_grad}
    buffers = [
        (module, name, buffer) for module in modules for name, buffer in module._buffers.items() if buffer is not None
    ]
    contents = BufferSnapshot(buffer for _, _, buffer in buffers)
    contents.take()
    # A compiled model would not call the hooks of its layers.
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
            for module, name, buffer in buffers:
                module._buffers[name] = buffer
            contents.restore()
