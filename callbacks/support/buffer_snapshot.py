"""Copies of a model's buffers from before a step, to restore where the step is not made."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


class BufferSnapshot:
    """Copies of buffers, packed by type and device, so that a step costs a few calls and no read by the host.

    What is written back does not count as a change to autograd: a graph that waits for its backward pass stays valid.

    Args:
        buffers: of any shapes and types; they are expected to be changed in place.
    """

    def __init__(self, buffers: Iterable[Tensor]):
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in buffers:
            if buffer.numel():
                # .data, of which autograd counts no change.
                groups.setdefault((buffer.dtype, buffer.device), []).append(buffer.data)
        self._packs = [_Pack.of(group) for group in groups.values()]

    @torch.no_grad()
    def take(self) -> None:
        """Copy the buffers as they are now."""
        for pack in self._packs:
            torch._foreach_copy_(pack.saved, pack.buffers)

    @torch.no_grad()
    def restore_where(self, found: Tensor) -> None:
        """Put the copies back where ``found``, [], is not 0, without reading it."""
        for pack in self._packs:
            torch._foreach_copy_(pack.current, pack.buffers)
            # The condition stays on the device: a host that asked for it would wait for the whole step.
            condition = found.to(pack.flat_saved.device, non_blocking=True) > 0
            torch.where(condition, pack.flat_saved, pack.flat_current, out=pack.flat_current)
            torch._foreach_copy_(pack.buffers, pack.current)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copies back."""
        for pack in self._packs:
            torch._foreach_copy_(pack.buffers, pack.saved)


@dataclass(frozen=True)
class _Pack:
    buffers: list[Tensor]
    flat_saved: Tensor
    flat_current: Tensor
    saved: list[Tensor]
    current: list[Tensor]

    @classmethod
    def of(cls, buffers: list[Tensor]) -> "_Pack":
        # Two flat tensors per pack, one of the copies and one to choose in: a single ``where`` decides for all buffers.
        flats = [buffers[0].new_zeros(sum(buffer.numel() for buffer in buffers)) for _ in range(2)]
        sizes = [buffer.numel() for buffer in buffers]
        views = [
            [part.view(buffer.shape) for part, buffer in zip(flat.split(sizes), buffers, strict=True)] for flat in flats
        ]
        return cls(buffers, flats[0], flats[1], views[0], views[1])
