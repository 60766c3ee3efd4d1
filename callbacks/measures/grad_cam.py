"""Grad-CAM: which places of an image a score depends on, without a trace in the model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..errors import UsageError


def grad_cam(forward: Callable[[], Tensor], layer: nn.Module) -> Tensor:
    """Return where the activations of a layer raise a score.

    The channels of the layer are weighted by the mean gradient of the score, summed, and cut at 0 (R. Selvaraju et
    al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", 2017, equations 1 and 2).
    ``.grad`` of no tensor is touched.

    Args:
        forward: runs the model and returns one score a sample, [N].
        layer: part of the model; of several calls in a forward pass the last one that the score depends on counts.

    Returns:
        [N, h, w], float32: the largest value of each map is 1, or the whole map is 0.

    Raises:
        UsageError: the layer has no output [N, C, h, w], or the score does not depend on it.
    """
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim != 4:
            return None
        if not kept:  # the graph begins here: nothing before the layer is kept for a backward pass
            torch.set_grad_enabled(True)
            output = output.detach().requires_grad_()
        kept.append(output)
        return output.clone()  # what follows may work in place

    with torch.no_grad(), _hooked([layer], keep):
        scores = forward()
        if not kept:
            raise UsageError(f"layer must be one whose output is [N, C, h, w]: {type(layer).__name__} gives none.")
        if not scores.requires_grad:
            raise UsageError(
                f"layer must be one that the output depends on: of {type(layer).__name__} it does not, or is detached."
            )
        kept = [activation for activation in kept if activation.requires_grad]
        gradients = torch.autograd.grad(scores.sum(), kept, allow_unused=True)
    used = [pair for pair in zip(kept, gradients, strict=True) if pair[1] is not None]
    if not used:
        raise UsageError(f"layer must be one that the output depends on: {type(layer).__name__} is not.")
    with torch.no_grad():
        activation, gradient = used[-1]
        weights = gradient.float().mean(dim=(2, 3), keepdim=True)
        maps = (weights * activation.detach().float()).sum(dim=1).clamp(min=0)
        largest = maps.amax(dim=(1, 2), keepdim=True)
        return torch.where(largest > 0, maps / largest, 0.0)


def find_layer(models: Sequence[nn.Module], forward: Callable[[], Tensor]) -> nn.Module | None:
    """Return the layer to explain a model by: the last one of those with the smallest map larger than one place.

    Args:
        models: those that ``forward`` runs.
        forward: runs them.

    Returns:
        None where no layer that the output depends on has an output [N, C, h, w] with more than one place.
    """
    noted: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _inputs: object, output: object) -> object:
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[2] * output.shape[3] <= 1:
            return None
        noted.append((module, output))
        return output.clone()  # what follows may work in place

    leaves = [module for model in models for module in model.modules() if not list(module.children())]
    with torch.enable_grad(), _hooked(leaves, note):
        output = forward()
        tracked = [(module, part) for module, part in noted if part.requires_grad]
        parts = [part for _, part in tracked]
        # Layers of a branch that the output does not depend on cannot explain it.
        gradients = torch.autograd.grad(output.sum(), parts, allow_unused=True) if parts else ()
    areas = [
        (part.shape[2] * part.shape[3], module)
        for (module, part), gradient in zip(tracked, gradients, strict=True)
        if gradient is not None
    ]
    smallest = min((area for area, _ in areas), default=None)
    return next((module for area, module in reversed(areas) if area == smallest), None)


def explained_score(output: Tensor, target: Tensor | None, explain: str | int, ignore_index: int | None) -> Tensor:
    """Return the score of each sample that is to be explained, [N], float32.

    Args:
        output: logits, [N, C, ...] with C >= 2, or [N], [N, 1, ...] or [N, H, W] of one class.
        target: class numbers [N, ...], or 0 and 1 in the output's shape; needed for ``true``.
        explain: ``predicted``: the logit of the class that wins; where there is one class, the logit or its negative.
            Of masks the sum over pixels, where there is one class over those that are predicted (over all, where none
            is). ``true``: likewise of the true classes. A number: the logit of that class, summed over pixels.
        ignore_index: target value that is left out, for ``true``.

    Raises:
        UsageError: there is no such class, or the target does not fit.
    """
    single = output.ndim in (1, 3) or output.shape[1] == 1
    logits = output.float().reshape(len(output), 1 if single else output.shape[1], -1)
    if single:
        logits = torch.cat([-logits, logits], dim=1)
    if isinstance(explain, int):
        if explain >= logits.shape[1]:
            raise UsageError(f"explain must be a class from 0 to {logits.shape[1] - 1}, got {explain}.")
        chosen = torch.zeros_like(logits, dtype=torch.bool)
        chosen[:, explain] = True
    elif explain == "true":
        chosen = _true_classes(logits, target, ignore_index, labels=target is not None and target.shape == output.shape)
    else:
        chosen = logits == logits.amax(dim=1, keepdim=True)
    if single and logits.shape[2] > 1 and not isinstance(explain, int):
        hits = chosen[:, 1:]
        chosen = torch.cat([torch.zeros_like(hits), hits | ~hits.any(dim=2, keepdim=True)], dim=1)
    return (logits * chosen).sum(dim=(1, 2))


def _true_classes(logits: Tensor, target: Tensor | None, ignore_index: int | None, *, labels: bool) -> Tensor:
    """Return which logits [N, C, P] are those of true classes; ``labels``: each class has a target of its own."""
    classes, places = logits.shape[1:]
    if target is None or target.numel() not in (len(logits) * places, logits.numel()):
        got = "none" if target is None else tuple(target.shape)
        raise UsageError(f"explain='true' needs a target for each of {places} places of a sample, got {got}.")
    if labels and target.numel() == logits.numel():
        return target.reshape(logits.shape) == 1
    numbers = target.reshape(len(logits), 1, places)
    chosen = numbers == torch.arange(classes, device=logits.device)[:, None]
    return chosen if ignore_index is None else chosen & (numbers != ignore_index)


@contextlib.contextmanager
def undisturbed(models: Sequence[nn.Module]) -> Iterator[None]:
    """Have the models in eval mode, and leave all as it was: modes, buffers bit by bit, random numbers."""
    modules = [module for model in models for module in model.modules()]
    modes = [(module, module.training) for module in modules]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    # A compiled model would not call the hooks of its layers.
    with torch.random.fork_rng(), torch.compiler.set_stance("force_eager"):
        try:
            for model in models:
                model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for module, name, buffer, content in buffers:
                module._buffers[name] = buffer
                with torch.no_grad():
                    buffer.copy_(content)


@contextlib.contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., object]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
