"""The images that a model receives in a forward pass: found among its inputs, and changed in one quarter."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from .image_layouts import Images

Region = tuple[slice, slice]

_FOR_ONE_PASS = "for_one_pass_of_assay"  # attribute of a tensor


class ImageInput:
    """Finds the images that models receive in a forward pass, and can replace them by changed ones.

    The images are the largest tensors [N, C, H, W] among the inputs of the first module of the pass, else its
    [N, H, W]. Every module that receives them again receives the changed ones.

    Args:
        models: those that the forward pass runs, or parts of them.

    Attributes:
        images: those of the last pass; None where none were found.
    """

    def __init__(self, models: Sequence[nn.Module]):
        self.modules = list(dict.fromkeys(module for model in models for module in model.modules()))
        self.images: Images | None = None
        self._changed: dict[int, Tensor] | None = None
        self._quarter: int | None = None
        self._traced = False

    @contextmanager
    def watched(self, quarter: int | None = None, *, traced: bool = False) -> Iterator[None]:
        """Watch the one forward pass that runs within the context.

        Args:
            quarter: of the images to change: upper left (0), upper right, lower left or lower right (3).
            traced: whether an autograd graph begins at the images, if they are floating point; nothing is changed then.
        """
        self.images, self._changed, self._quarter, self._traced = None, None, quarter, traced
        with ExitStack() as stack:
            for module in self.modules:
                stack.callback(module.register_forward_pre_hook(self._hook, with_kwargs=True).remove)
            yield
            self._changed = None

    def _hook(self, _: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        if self._changed is None:
            self._changed = self._find_images(args, kwargs)
        if (self._quarter is None and not self._traced) or not self._changed:
            return None
        return tree_map(self._replace_images, (tuple(args), dict(kwargs)))

    def _find_images(self, args: Any, kwargs: Mapping[str, Any]) -> dict[int, Tensor]:
        """Note the images, and return the changed ones by the address of those that they replace."""
        # By address, as a model may hand on views and detached tensors of the same memory.
        tensors = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor) and leaf.numel()]
        images = [one for one in tensors if one.ndim == 4] or [one for one in tensors if one.ndim == 3]
        images = [one for one in images if one.shape[-1] * one.shape[-2] > 1]
        if not images:
            return {}
        sides = max((one.shape[-2:] for one in images), key=lambda shape: shape[0] * shape[1])
        self.images = Images(len(images[0]), *sides)
        if self._quarter is None:
            return {one.data_ptr(): _begin_graph(one) if self._traced else one for one in images}
        return {one.data_ptr(): change_quarter(one, self._quarter) for one in images if one.shape[-2:] == sides}

    def _replace_images(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or self._changed is None or leaf.data_ptr() not in self._changed:
            return leaf
        changed = self._changed[leaf.data_ptr()]
        return changed if changed.shape == leaf.shape else leaf


def for_one_pass(images: Tensor) -> Tensor:
    """Mark images that are made anew for each forward pass, so that they are changed in place."""
    # A copy of large images would take as much memory again.
    setattr(images, _FOR_ONE_PASS, True)
    return images


def _begin_graph(images: Tensor) -> Tensor:
    """Return a copy of images that an autograd graph begins at, if they are floating point."""
    # A copy, as a model may work in place, which a leaf that requires a gradient forbids.
    return images.detach().requires_grad_(images.is_floating_point()).clone()


def change_quarter(images: Tensor, quarter: int) -> Tensor:
    """Return images, [N, ..., H, W], with one quarter changed: a copy, except for those of ``for_one_pass``.

    To floating point noise as strong as the image is added; integers are mirrored between their extremes.
    """
    changed = images.detach() if hasattr(images, _FOR_ONE_PASS) else images.detach().clone()
    rows, columns = (side // 2 for side in images.shape[-2:])
    part = changed[..., slice(rows, None) if quarter > 1 else slice(rows), :]
    part = part[..., slice(columns, None) if quarter % 2 else slice(columns)]
    if changed.is_floating_point():
        chance = torch.Generator().manual_seed(quarter)
        # Drawn on the CPU, so that it is the same on each device.
        noise = torch.randn(part.shape, generator=chance).to(part.device, part.dtype)
        part.add_(noise.mul_(changed.float().std().clamp(min=1e-2).to(part.dtype)))
    else:
        part.copy_(images.amax().long() + images.amin().long() - part.long())
    return changed
