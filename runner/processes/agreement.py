"""Let ranks agree on a number without waiting for the device."""

import torch

from assay.callbacks.support.distributed import reduce_state, world_size
from assay.callbacks.support.host_copy import HostCopy


class Agreement:
    """The largest of the numbers that the ranks exchange.

    Args:
        device: the device that the ranks communicate on.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._agreed: HostCopy | None = None

    def exchange(self, number: int) -> int:
        """Send a number, and return the largest number of the previous exchange; 0 the first time. A collective.

        On one process, return the number itself.
        """
        if world_size() == 1:
            return number
        before = self._read_agreed()  # one exchange later, when the copy to the host has long arrived
        mine = torch.full((1,), number, dtype=torch.int32, device=self._device)
        self._agreed = HostCopy(reduce_state({"number": mine}, {"number": "max"})["number"])
        return before

    def settle(self, number: int) -> int:
        """Send a number, and wait for the largest of this exchange and the previous one. A collective."""
        return max(self.exchange(number), self._read_agreed())

    def _read_agreed(self) -> int:
        return 0 if self._agreed is None else int(self._agreed.read()[0])
