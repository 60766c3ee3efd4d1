"""The layer to explain a model by: the last map of a convolutional network, the patches of one that cuts the image."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .bottlenecks import bottlenecks
from .image_input import ImageInput
from .image_layouts import Images, Layout, Planes, layouts_of

Forward = Callable[[], Tensor]
Visit = Callable[["Call", Tensor, bool], Tensor | None]

FOLLOWS = 0.75  # by how many of its places, at least, a map has to follow the image

_SURE = 0.95  # the same for layouts that are not usual
_HARDLY = 1e-3  # of its size: changes of less drown in rounding
_EARLY = 8  # so many calls are looked at together, from the first on
_STRAY = 1e-3  # of its own changes, at most, are those of a place that stands for its part of the image alone
_GROUPS = (2, 6, 24, 96)  # so many calls are looked at together, from the last on: most often the last is taken


@dataclass(frozen=True)
class Call:
    """One of the calls of a module within a forward pass, from 0 on."""

    module: nn.Module
    number: int


@dataclass(frozen=True)
class Layer:
    """What a model is explained by.

    Attributes:
        module: whose output it is.
        layout: how its output is read as a map.
        call: which of the calls of the module counts; None: the last one that the score depends on.
        image_shape: height and width of the images, of which tokens take the form of their map.
        mixes: whether what follows carries places to others, as attention does: one gradient then says too little.
    """

    module: nn.Module
    layout: Layout = field(default_factory=Planes)
    call: int | None = None
    image_shape: tuple[int, int] = (1, 1)
    mixes: bool = False

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:
        """Have a hook called with the module's outputs, as ``nn.Module`` has it."""
        return self.module.register_forward_hook(hook)


def find_layer(models: Sequence[nn.Module], forward: Forward, kind: str | None = None) -> Layer | None:
    """Return the last layer whose output follows the image, and that the output depends on in more than one place.

    That an output follows the image is seen by changing a quarter of the image at a time: each place of the map has to
    change more by its own part of the image than by the one beside it. So neither tables of positions, which do not
    change at all, nor attention scores, whose axes are something else, are taken for maps, and of the axes of a map it
    is known which are its places. Of masks the layers that give one channel a class are left out, if others are there.

    A network that cuts the image into patches, as ViT, Swin and ConvNeXt do, has carried the evidence to other places
    by then. Of it the layer is the last one of which each place still stands for its own part of the image alone, and
    that all of the output goes through; see ``Layer.mixes``.

    Args:
        models: those that ``forward`` runs.
        forward: runs them on at least one image, and returns their output.
        kind: see ``layouts_of``.

    Returns:
        None where there is no such layer.
    """
    watch = _Watch(models, forward, kind)
    calls = watch.calls()
    while calls:
        for size in _GROUPS:
            group, calls = calls[-size:], calls[:-size]
            found = watch.last_that_follows(group) if group else None
            if found is not None:
                return watch.last_unmixed() or found if found.mixes or watch.has_patches else found
    return None


@dataclass(frozen=True)
class Reading:
    """How the output of a module is best read as a map.

    Attributes:
        layer: the module with this layout.
        share: of the places of the map, that follow the image.
        change: by which part of itself the output changes with a quarter of the image.
    """

    layer: Layer
    share: float
    change: float

    @property
    def follows(self) -> bool:
        """Whether it is a map of the image; one that hardly changes at all, as in a net without training, may be."""
        return self.share >= _needed(self.layer.layout) or 0 < self.change < _HARDLY


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
    watch = _Watch(models, forward, kind)
    calls = [call for call in watch.calls(whole=True) if call.module is module]
    outputs = watch.outputs(calls)
    evidence = watch.evidence(outputs)
    readings = [
        Reading(
            watch.layer(call, layout, number=None, mixes=watch.has_patches),
            share,
            watch.change[call] / max(_size(outputs[call]), 1e-30),
        )
        for call, (layout, share) in ((call, _best(shares)) for call, shares in evidence.items())
    ]
    return max(readings, key=lambda reading: reading.share, default=None)


class _Watch:
    """The calls of modules within a forward pass that is made again and again."""

    def __init__(self, models: Sequence[nn.Module], forward: Forward, kind: str | None):
        self.input = ImageInput(models)
        self.modules = self.input.modules
        self.forward, self.kind = forward, kind
        self.layouts: dict[Call, list[Layout]] = {}
        self.change: dict[Call, float] = {}
        self.stray: dict[tuple[Call, Layout], float] = {}
        self.has_patches = False
        self.images = Images(0, 0, 0)

    def calls(self, *, whole: bool = False) -> list[Call]:
        """Return the calls with outputs that may be maps, in the order in which they return.

        Args:
            whole: whether those are among them that cannot be the last layer: what takes tokens apart, such as the
                projections within an attention, and what gives the classes of a mask.
        """
        shapes: dict[Call, torch.Size] = {}
        last: list[Tensor] = []
        first: list[nn.Module] = []

        def visit(call: Call, output: Tensor, keeps_shape: bool) -> None:
            if self.input.images is not None and (whole or keeps_shape or output.ndim == 4):
                self.images = self.input.images
                first[:] = first or [call.module]
                if last and last[0].data_ptr() == output.data_ptr() and not whole:
                    shapes.popitem()  # a part of this module has returned the same
                last[:] = [output]
                self.layouts[call] = layouts_of(output, self.images, self.kind)
                shapes[call] = output.shape

        with torch.no_grad(), self.input.watched():
            result = self._run(visit)
        found = [call for call in shapes if self.layouts[call]]
        self.has_patches = result.ndim < 3 and any(map(_cuts, first))
        return found if whole or result.ndim < 3 else _without_head(found, shapes, result)

    def last_that_follows(self, group: Sequence[Call]) -> Layer | None:
        """Return the last of some calls that is a layer to explain by; None where none is."""
        outputs, gradients = self._gradients(group)
        if not gradients:
            return None
        reaches = torch.stack([gradient.any() for gradient in gradients.values()]).tolist()
        silent = not any(reaches)
        evidence = self.evidence(
            {call: outputs[call] for call, reached in zip(gradients, reaches, strict=True) if reached or silent}
        )
        for call in reversed(evidence):
            layout, share = _best(evidence[call])
            read = layout.read(gradients[call], self.images)
            if share >= _needed(layout) and read is not None and (silent or int(read.any(dim=1).sum()) > 1):
                return self.layer(call, layout, number=call.number)
        return None

    def last_unmixed(self) -> Layer | None:
        """Return the last layer of the main stream before places see others; None where none is."""
        calls, found = self._main_stream(self.calls(whole=True)), None
        while calls:
            group, calls = calls[:_EARLY], calls[_EARLY:]
            for call, shares in self.evidence(self.outputs(group)).items():
                layout, share = _best(shares)
                if share >= _needed(layout):
                    if self.stray[call, layout] > _STRAY:
                        return found
                    found = self.layer(call, layout, call.number, mixes=True)
        return found

    def _main_stream(self, calls: Sequence[Call]) -> list[Call]:
        """Return those of some calls, in their order, that all that the output depends on goes through."""
        wanted = set(calls)
        nodes: dict[Any, Call] = {}

        def keep(call: Call, output: Tensor, _: bool) -> Tensor | None:
            if call not in wanted or output.is_inference():
                return None
            if not output.requires_grad:
                if nodes:  # a table of positions, or whatever else does not come from the images
                    return None
                output = output.detach().requires_grad_()  # of images that are whole numbers
            passed = output.clone()
            nodes[passed.grad_fn] = call
            return passed

        with torch.enable_grad(), self.input.watched(traced=True):
            output = self._run(keep)
        return bottlenecks(output.grad_fn, nodes) if output.grad_fn is not None else []

    def outputs(self, calls: Sequence[Call]) -> dict[Call, Tensor]:
        """Return the outputs of calls."""
        found: dict[Call, Tensor] = {}

        def keep(call: Call, output: Tensor, _: bool) -> None:
            if call in calls:
                found[call] = output.clone()

        with torch.no_grad():
            self._run(keep)
        return found

    def layer(self, call: Call, layout: Layout, number: int | None, *, mixes: bool = False) -> Layer:
        """Return a layer; those of tokens or channels last always mix."""
        sides = self.images.height, self.images.width
        return Layer(call.module, layout, number, sides, mixes or layout.kind != "nchw")

    def evidence(self, outputs: Mapping[Call, Tensor]) -> dict[Call, dict[Layout, float]]:
        """Return for each call, and each way to read its output, by what share of its places it follows the image."""
        changes: dict[tuple[Call, Layout], list[Tensor]] = {}

        def compare(call: Call, output: Tensor, _: bool) -> None:
            if call in outputs and outputs[call].shape == output.shape:
                change = output.float().sub(outputs[call]).abs_()
                for layout in self.layouts[call]:
                    read = layout.read(change, self.images)
                    if read is not None:
                        changes.setdefault((call, layout), []).append(read.sum(dim=(0, 1)))

        with torch.no_grad():
            for quarter in range(4 if outputs else 0):
                with self.input.watched(quarter):
                    self._run(compare)
            whole = {key: torch.stack(maps) for key, maps in changes.items() if len(maps) == 4}
            numbers = iter(torch.cat([maps.reshape(-1) for maps in whole.values()]).cpu().numpy() if whole else ())
        found: dict[Call, dict[Layout, float]] = {}
        for (call, layout), maps in whole.items():
            flat = np.fromiter(islice(numbers, maps.numel()), np.float64, maps.numel())
            found.setdefault(call, {})[layout] = locality(flat.reshape(maps.shape))
            self.stray[call, layout] = stray(flat.reshape(maps.shape))
            self.change[call] = float(flat.sum()) / 4
        return {call: found[call] for call in outputs if call in found}

    def _gradients(self, group: Sequence[Call]) -> tuple[dict[Call, Tensor], dict[Call, Tensor]]:
        """Return the outputs of calls, and the gradients by them of the output, of those that it depends on."""
        wanted: set[Call] = set(group)
        kept: dict[Call, Tensor] = {}

        def keep(call: Call, output: Tensor, _: bool) -> Tensor | None:
            if call not in wanted or output.is_inference():
                return None
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            kept[call] = output
            return output.clone()  # what follows may work in place

        with torch.enable_grad():
            output = self._run(keep)
            if not output.requires_grad or not kept:
                return {}, {}
            weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.device)
            found = torch.autograd.grad((output.float() * weights).sum(), list(kept.values()), allow_unused=True)
        gradients = {call: gradient for call, gradient in zip(kept, found, strict=True) if gradient is not None}
        return {call: output.detach() for call, output in kept.items()}, gradients

    def _run(self, visit: Visit) -> Tensor:
        """Run the forward pass, with the same chance each time, and show each call that gives numbers in places."""
        numbers: Counter[nn.Module] = Counter()

        def hook(module: nn.Module, inputs: Sequence[object], output: object) -> object:
            number = numbers[module]
            numbers[module] += 1
            if not isinstance(output, Tensor) or output.ndim not in (3, 4) or not output.is_floating_point():
                return None
            keeps_shape = any(isinstance(one, Tensor) and one.shape == output.shape for one in inputs)
            return visit(Call(module, number), output, keeps_shape)

        with torch.random.fork_rng(), hooked(self.modules, hook):
            return self.forward()


def _needed(layout: Layout) -> float:
    """Return by what share of its places a map has to follow the image to be taken for one."""
    return FOLLOWS if layout.usual else _SURE


def _best(shares: Mapping[Layout, float]) -> tuple[Layout, float]:
    """Return the layout that is the most above what it needs, the first of equals, and its share."""
    layout = max(shares, key=lambda layout: shares[layout] - _needed(layout))
    return layout, shares[layout]


def _without_head(calls: list[Call], shapes: Mapping[Call, torch.Size], result: Tensor) -> list[Call]:
    """Return the calls before those that give one channel a class, which are the masks themselves."""
    classes = 1 if result.ndim == 3 else result.shape[1]
    inner = list(calls)
    while inner and classes in (shapes[inner[-1]][1], shapes[inner[-1]][-1]):
        inner.pop()
    return inner or calls


def _cuts(module: nn.Module) -> bool:
    """Whether a module cuts the image into patches that do not overlap."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1)


def _size(output: Tensor) -> float:
    return float(output.detach().double().abs().sum())


def locality(changes: np.ndarray) -> float:
    """Return by what share of its places a map follows the image, 0 to 1; of unrelated places it is about 0.5.

    Args:
        changes: [4, h, w], by how much each place changes with a quarter of the image: upper left, upper right, lower
            left, lower right. A place counts the more, the nearer it is to the edge.
    """
    total = changes.sum(axis=(1, 2), keepdims=True)
    if not (total > 0).all() or not np.isfinite(total).all():
        return 0.0
    upper_left, upper_right, lower_left, lower_right = changes / total
    left, right = upper_left + lower_left, upper_right + lower_right
    upper, lower = upper_left + upper_right, lower_left + lower_right
    pairs = ((left, right), (upper.T, lower.T))
    return min((_share(*pair) for pair in pairs if pair[0].shape[1] > 1), default=0.0)


def stray(changes: np.ndarray) -> float:
    """Return how much places change with the other quarters of the image, as a part of what they do with their own.

    Args:
        changes: see ``locality``. Places beside the middle, which may have a part in two quarters, do not count.
    """
    height, width = changes.shape[1:]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    sides = [(rows < height / 2 - 1, columns < width / 2 - 1), (rows > height / 2, columns > width / 2)]
    quarters = [sides[i][0] & sides[j][1] for i in (0, 1) for j in (0, 1)]
    own = sum(float(changes[i][quarters[i]].sum()) for i in range(4))
    others = sum(float(changes[i][quarters[j]].sum()) for i in range(4) for j in range(4) if i != j)
    return others / own if own > 0 else float("inf")


def _share(before: np.ndarray, after: np.ndarray) -> float:
    """Return by what share of its places a map changes more with its own half, of the left and of the right one."""
    place = np.broadcast_to((np.arange(before.shape[1]) + 0.5) / before.shape[1] - 0.5, before.shape)
    own = np.sign(after - before) == np.sign(place)
    return float(np.abs(place)[own].sum() / np.abs(place).sum())


@contextmanager
def hooked(modules: Sequence[Any], hook: Callable[..., object]) -> Iterator[None]:
    """Have the outputs of modules shown to a hook."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield
