"""A number that ranks agree on, without a step that waits for it."""

import torch

from assay.callbacks.distributed import reduce_state, world_size
from assay.callbacks.host_copy import HostCopy


class Agreement:
    """The largest of the numbers that the ranks tell each other.

    Args:
        device: what the ranks communicate on.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._agreed: HostCopy | None = None

    def exchange(self, number: int) -> int:
        """Tell a number, and return the largest of those told the time before, which have arrived by now; at first 0.

        On one process it is that number itself. A collective.
        """
        if world_size() == 1:
            return number
        before = self._read()
        mine = torch.full((1,), number, dtype=torch.int32, device=self._device)
        self._agreed = HostCopy(reduce_state({"number": mine}, {"number": "max"})["number"])
        return before

    def settle(self, number: int) -> int:
        """Tell a number, and wait for the largest of those told now and the time before. A collective."""
        return max(self.exchange(number), self._read())

    def _read(self) -> int:
        return 0 if self._agreed is None else int(self._agreed.read()[0])
