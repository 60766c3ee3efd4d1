"""Device tensors on their way to the host, read later without making the step wait."""

from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """A copy of a tensor to host memory that is started now and read later.

    On a GPU the copy goes to pinned memory beside the running work, and only ``read`` waits for it; one step
    later it has arrived. On a CPU it is a plain copy, so a later in-place change does not show in it.

    Args:
        tensor: of any shape, on any device.
    """

    def __init__(self, tensor: Tensor):
        tensor = tensor.detach()
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        self._arrived: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record(torch.cuda.current_stream(tensor.device))

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
