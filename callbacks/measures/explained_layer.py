"""The layer to explain a model by: the last map of a convolutional network, or the tokens of one that cuts patches."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .forward_watch import Call, Forward, ForwardWatch
from .image_layouts import Layout, Planes

FOLLOWS = 0.75
"""Share of its places, at least, by which a map has to follow the image."""

_FOLLOWS_UNUSUAL = 0.95  # the same for layouts that are not usual, which have many tries to fit by chance
_ROUNDING = 1e-3  # relative change of an output, below which rounding hides where it lies
_MOST_STRAY = 1e-3  # change with other quarters, relative to its own, of a place that stands for its own part alone
_FROM_FIRST = 8  # calls compared at a time, from the first on
# Calls compared at a time, from the last on. Most often the last is taken, so that the first group is small; each group
# costs five forward passes and a backward pass, so that later ones are large.
_FROM_LAST = (2, 6, 24, 96)


@dataclass(frozen=True)
class Layer:
    """What a model is explained by.

    Attributes:
        module: whose output it is.
        layout: how its output is read as a map.
        call: which of the calls of the module counts; None: the last one that the score depends on.
        image_shape: height and width of the images, whose form the map of tokens takes.
        mixes: whether later modules carry information between places, as attention does: one gradient then says too
            little.
    """

    module: nn.Module
    layout: Layout = field(default_factory=Planes)
    call: int | None = None
    image_shape: tuple[int, int] = (1, 1)
    mixes: bool = False

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:
        """Register a hook with the module, as ``nn.Module`` does."""
        return self.module.register_forward_hook(hook)


@dataclass(frozen=True)
class Reading:
    """How the output of a module is best read as a map.

    Attributes:
        layer: the module with this layout.
        share: of the places of the map, that follow the image.
        change: of the output with a quarter of the image, relative to the output.
    """

    layer: Layer
    share: float
    change: float

    @property
    def follows(self) -> bool:
        """Whether it is a map of the image; one that hardly changes, as in a net without training, may be."""
        return self.share >= _needed_share(self.layer.layout) or 0 < self.change < _ROUNDING


def find_layer(models: Sequence[nn.Module], forward: Forward, kind: str | None = None) -> Layer | None:
    """Return the last layer whose output follows the image, and that the output depends on in more than one place.

    To see whether an output follows the image, a quarter of the image is changed at a time: each place of the map has
    to change more with its own part of the image than with the one beside it. This excludes tables of positions, which
    do not change at all, and attention scores, whose axes are not places; and it shows which axes of a map are its
    places. Of masks the layers that return one channel per class are left out, if there are others.

    A network that cuts the image into patches, as ViT, Swin and ConvNeXt do, has carried the evidence to other places
    at its end. Of it the layer is the last one of which each place still stands for its own part of the image alone,
    and that all of the output goes through; see ``Layer.mixes``.

    Args:
        models: those that ``forward`` runs.
        forward: runs them on at least one image, and returns their output.
        kind: see ``layouts_of``.

    Returns:
        None where there is no such layer.
    """
    watch = ForwardWatch(models, forward, kind)
    calls = watch.calls()
    while calls:
        for size in _FROM_LAST:
            group, calls = calls[-size:], calls[:-size]
            found = _last_that_follows(watch, group) if group else None
            if found is not None:
                return _last_unmixed(watch) or found if found.mixes or watch.has_patches else found
    return None


def read_module(
    models: Sequence[nn.Module], forward: Forward, module: nn.Module, kind: str | None = None
) -> Reading | None:
    """Return how the output of a module is best read as a map; None where it cannot be one.

    Args:
        models: those that ``forward`` runs.
        forward: see ``find_layer``.
        module: a part of them.
        kind: see ``layouts_of``.
    """
    watch = ForwardWatch(models, forward, kind)
    calls = [call for call in watch.calls(whole=True) if call.module is module]
    outputs = watch.outputs(calls)
    readings = []
    for call, shares in watch.evidence(outputs).items():
        layout, share = _best_layout(shares)
        size = float(outputs[call].detach().double().abs().sum())
        layer = _make_layer(watch, call, layout, None, mixes=watch.has_patches)
        readings.append(Reading(layer, share, watch.change[call] / max(size, 1e-30)))
    return max(readings, key=lambda reading: reading.share, default=None)


def _last_that_follows(watch: ForwardWatch, group: Sequence[Call]) -> Layer | None:
    """Return the last of some calls that is a layer to explain by; None where none is."""
    outputs, gradients = watch.gradients(group)
    if not gradients:
        return None
    reaches = torch.stack([gradient.any() for gradient in gradients.values()]).tolist()
    # Where all gradients are 0, as with saturated outputs, they cannot tell which calls matter.
    silent = not any(reaches)
    evidence = watch.evidence(
        {call: outputs[call] for call, reached in zip(gradients, reaches, strict=True) if reached or silent}
    )
    for call in reversed(evidence):
        layout, share = _best_layout(evidence[call])
        read = layout.read(gradients[call], watch.images)
        if share >= _needed_share(layout) and read is not None and (silent or _reaches_places(read)):
            return _make_layer(watch, call, layout, call.number)
    return None


def _last_unmixed(watch: ForwardWatch) -> Layer | None:
    """Return the last layer of the main stream before places see others; None where none is."""
    calls, found = watch.main_stream(watch.calls(whole=True)), None
    while calls:
        group, calls = calls[:_FROM_FIRST], calls[_FROM_FIRST:]
        for call, shares in watch.evidence(watch.outputs(group)).items():
            layout, share = _best_layout(shares)
            if share >= _needed_share(layout):
                if watch.stray[call, layout] > _MOST_STRAY:
                    return found
                found = _make_layer(watch, call, layout, call.number, mixes=True)
    return found


def _make_layer(watch: ForwardWatch, call: Call, layout: Layout, number: int | None, *, mixes: bool = False) -> Layer:
    """Return a layer; those of tokens or channels last always mix."""
    sides = watch.images.height, watch.images.width
    return Layer(call.module, layout, number, sides, mixes or layout.kind != "nchw")


def _reaches_places(gradient: Tensor) -> bool:
    """Whether a gradient, [N, C, h, w], is not 0 in more than one place: a class token alone is no map."""
    return int(gradient.any(dim=1).sum()) > 1


def _needed_share(layout: Layout) -> float:
    """Return by what share of its places a map has to follow the image to count as one."""
    return FOLLOWS if layout.usual else _FOLLOWS_UNUSUAL


def _best_layout(shares: Mapping[Layout, float]) -> tuple[Layout, float]:
    """Return the layout that is the most above what it needs, the first of equals, and its share."""
    layout = max(shares, key=lambda layout: shares[layout] - _needed_share(layout))
    return layout, shares[layout]
