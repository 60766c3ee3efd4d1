"""Layers that train, whose output makes a difference to the loss, and to which no gradient comes back."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from .batches import tensors_in
from .recording import Recording

_GROUPS = 6  # that are tried, each by a forward pass


def detached_layers(recording: Recording, loss: Callable[[], float | None]) -> tuple[str, ...]:
    """Return the names of such layers.

    Args:
        recording: of a training pass whose loss has given gradients.
        loss: runs the forward pass again, with the same random numbers, and returns the loss.
    """
    groups = [*_groups(recording)][:_GROUPS]
    before = loss() if groups else None
    if before is None:
        return ()
    found: list[str] = []
    for group in groups:
        with _noise([recording.layers[name].module for name in group]):
            after = loss()
        # A loss that is no number any more was reached as well.
        if after is None or abs(after - before) > 1e-6 * max(abs(before), 1e-6) or after != after:
            found += group
    return tuple(found)


def _groups(recording: Recording) -> Iterator[list[str]]:
    """Yield names of layers without gradients that are called one after the other and belong together."""
    cut_off = {name: _is_cut_off(record.module, recording) for name, record in recording.layers.items()}
    # Layers without parameters that train do not part the others.
    relevant = {name: cut for name, cut in cut_off.items() if cut is not None}
    for (cut, _), names in groupby(relevant, key=lambda name: (relevant[name], name.partition(".")[0])):
        if cut:
            yield [*names]


def _is_cut_off(module: nn.Module, recording: Recording) -> bool | None:
    trained = [one for one in module.parameters(recurse=False) if one.requires_grad]
    return all(id(one) not in recording.grad_norms for one in trained) if trained else None


@contextmanager
def _noise(modules: list[nn.Module]) -> Iterator[None]:
    """Replace what modules return by random numbers of the same mean and spread."""

    def replaced(module: nn.Module, inputs: Any, output: Any) -> Any:
        for tensor in tensors_in(output) if not isinstance(output, Mapping) else ():
            if tensor.is_floating_point() and tensor.numel():
                _draw(tensor)
        return output

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(replaced).remove)
        yield


@torch.no_grad()
def _draw(tensor: Tensor) -> None:
    drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor)
    tensor.copy_(drawn * (tensor.std(correction=0) + 1e-3) + tensor.mean())
