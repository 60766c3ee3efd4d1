"""What the modules of a model return in a forward pass, by call: outputs, gradients, and changes with the image."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .bottlenecks import bottlenecks
from .image_input import ImageInput
from .image_layouts import Images, Layout, layouts_of
from .locality import locality, stray

Forward = Callable[[], Tensor]
Visit = Callable[["Call", Tensor, bool], Tensor | None]


@dataclass(frozen=True)
class Call:
    """One of the calls of a module within a forward pass, counted from 0."""

    module: nn.Module
    number: int


class ForwardWatch:
    """Watches the calls of modules within a forward pass that is repeated as often as needed.

    Args:
        models: those that ``forward`` runs.
        forward: runs them on at least one image, and returns their output.
        kind: of layouts that are tried, see ``layouts_of``.

    Attributes:
        layouts: ways to read the output of each call as a map, after ``calls``.
        change: sum by which the output of each call changes with a quarter of the image, after ``evidence``.
        stray: see the function ``stray``, for each call and layout, after ``evidence``.
        has_patches: whether the model cuts the image into patches, after ``calls``.
        images: those of the pass.
    """

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
            whole: whether to include those that cannot be the last layer: modules that take tokens apart, such as the
                projections within an attention, and modules that give the classes of a mask.
        """
        shapes: dict[Call, torch.Size] = {}
        last: list[Tensor] = []
        first: list[nn.Module] = []

        def visit(call: Call, output: Tensor, keeps_shape: bool) -> None:
            if self.input.images is not None and (whole or keeps_shape or output.ndim == 4):
                self.images = self.input.images
                first[:] = first or [call.module]
                if last and last[0].data_ptr() == output.data_ptr() and not whole:
                    shapes.popitem()  # a part of this module has returned the same tensor
                last[:] = [output]
                self.layouts[call] = layouts_of(output, self.images, self.kind)
                shapes[call] = output.shape

        with torch.no_grad(), self.input.watched():
            result = self._run(visit)
        found = [call for call in shapes if self.layouts[call]]
        self.has_patches = result.ndim < 3 and any(map(_cuts_patches, first))
        return found if whole or result.ndim < 3 else _without_head(found, shapes, result)

    def outputs(self, calls: Sequence[Call]) -> dict[Call, Tensor]:
        """Return the outputs of calls."""
        found: dict[Call, Tensor] = {}

        def keep(call: Call, output: Tensor, _: bool) -> None:
            if call in calls:
                found[call] = output.clone()

        with torch.no_grad():
            self._run(keep)
        return found

    def gradients(self, calls: Sequence[Call]) -> tuple[dict[Call, Tensor], dict[Call, Tensor]]:
        """Return the outputs of calls, and the gradients of the output by those that it depends on."""
        wanted: set[Call] = set(calls)
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
            # Random weights, as a plain sum over classes has no gradient after a softmax; drawn on the CPU, so that
            # they are the same on each device.
            weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output.device)
            found = torch.autograd.grad((output.float() * weights).sum(), list(kept.values()), allow_unused=True)
        gradients = {call: gradient for call, gradient in zip(kept, found, strict=True) if gradient is not None}
        return {call: output.detach() for call, output in kept.items()}, gradients

    def evidence(self, outputs: Mapping[Call, Tensor]) -> dict[Call, dict[Layout, float]]:
        """Return the share of places that follow the image, for each call and each way to read its output."""
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
            # All maps in one copy, so that the device is waited for once.
            numbers = iter(torch.cat([maps.reshape(-1) for maps in whole.values()]).cpu().numpy() if whole else ())
        found: dict[Call, dict[Layout, float]] = {}
        for (call, layout), maps in whole.items():
            flat = np.fromiter(islice(numbers, maps.numel()), np.float64, maps.numel())
            found.setdefault(call, {})[layout] = locality(flat.reshape(maps.shape))
            self.stray[call, layout] = stray(flat.reshape(maps.shape))
            self.change[call] = float(flat.sum()) / 4
        return {call: found[call] for call in outputs if call in found}

    def main_stream(self, calls: Sequence[Call]) -> list[Call]:
        """Return those calls, in their order, that every path from the images to the output goes through."""
        wanted = set(calls)
        nodes: dict[Any, Call] = {}

        def keep(call: Call, output: Tensor, _: bool) -> Tensor | None:
            if call not in wanted or output.is_inference():
                return None
            if not output.requires_grad:
                if nodes:  # a table of positions, or something else that does not come from the images
                    return None
                output = output.detach().requires_grad_()  # of images that are whole numbers
            passed = output.clone()
            nodes[passed.grad_fn] = call
            return passed

        with torch.enable_grad(), self.input.watched(traced=True):
            output = self._run(keep)
        return bottlenecks(output.grad_fn, nodes) if output.grad_fn is not None else []

    def _run(self, visit: Visit) -> Tensor:
        """Run the forward pass with the same random numbers each time, and visit each call that may return a map."""
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


@contextmanager
def hooked(modules: Sequence[Any], hook: Callable[..., object]) -> Iterator[None]:
    """Call a hook with the outputs of modules while the context is open."""
    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(hook).remove)
        yield


def _without_head(calls: list[Call], shapes: Mapping[Call, torch.Size], result: Tensor) -> list[Call]:
    """Return the calls before those that return one channel per class, which are the masks themselves."""
    classes = 1 if result.ndim == 3 else result.shape[1]
    inner = list(calls)
    while inner and classes in (shapes[inner[-1]][1], shapes[inner[-1]][-1]):
        inner.pop()
    return inner or calls


def _cuts_patches(module: nn.Module) -> bool:
    """Whether a module cuts the image into patches that do not overlap."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == module.stride != (1, 1)
