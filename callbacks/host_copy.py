"""Device tensors on their way to the host, read later without making the step wait."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class HostCopy:
    """A copy of a tensor to host memory that is started now and read later.

    On a GPU the copy goes to pinned memory beside the running work, and only ``read`` waits for it; one step
    later it has arrived. On a CPU it is a plain copy, so a later in-place change does not show in it.

    Args:
        tensor: of any shape, on any device.
        own: whether nobody will change the tensor: on a CPU it then serves itself.
    """

    def __init__(self, tensor: Tensor, *, own: bool = False):
        tensor = tensor.detach()
        self._arrived: torch.cuda.Event | None = None
        if own and not tensor.is_cuda:
            self._host = tensor
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        if tensor.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

    def __len__(self) -> int:
        return len(self._host)

    def ready(self) -> bool:
        """Whether ``read`` would return at once."""
        return self._arrived is None or self._arrived.query()

    def read(self) -> Tensor:
        """Return the copy, a CPU tensor; waits where it has not arrived."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._host

    def __getstate__(self) -> dict[str, Any]:
        # On its way to another process it has to have arrived, and an event cannot travel.
        return {"_host": self.read(), "_arrived": None}


def copy_tree(part: Any, *, own: bool = False) -> Any:
    """Start copying every tensor of a nested structure of dicts and lists; ``read_tree`` finishes it."""
    return _map(lambda leaf: HostCopy(leaf, own=own) if isinstance(leaf, Tensor) else leaf, part)


def read_tree(part: Any) -> Any:
    """Return a structure of ``copy_tree`` with NumPy arrays for its tensors; half precision becomes float32."""
    return _map(lambda leaf: _to_numpy(leaf.read()) if isinstance(leaf, HostCopy) else leaf, part)


def _map(function: Callable[[Any], Any], part: Any) -> Any:
    if isinstance(part, str | int | Tensor | HostCopy):  # first, as asking for a mapping is slow
        return function(part)
    if isinstance(part, Mapping):
        return {key: _map(function, value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [_map(function, value) for value in part]
    return function(part)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    array: np.ndarray = (tensor.float() if half else tensor).numpy()
    return array
