"""Which parameters are watched closely, and norms of many tensors with one copy to the host."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ....support.host_copy import HostCopy

MOST_WATCHED = 40
# Numbers of a parameter, and of all, that are kept from before a step: 16 MiB in float32.
MOST_OF_ONE, MOST_OF_ALL = 1_000_000, 4_000_000


def choose_watched(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return up to ``MOST_WATCHED`` of the parameters in their order: both ends, the largest, and some in between."""
    names = [name for name, parameter in parameters.items() if parameter.is_floating_point()]
    if len(names) > MOST_WATCHED:
        largest = sorted(names, key=lambda name: -parameters[name].numel())[: MOST_WATCHED // 2]
        chosen = {*names[:2], *names[-2:], *largest}
        rest = [name for name in names if name not in chosen]
        free = MOST_WATCHED - len(chosen)
        chosen.update(rest[len(rest) * place // free] for place in range(free))
        names = [name for name in names if name in chosen]
    return {name: parameters[name] for name in names}


def first_rows(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return a view of the first rows of each parameter, without those that would be too many numbers."""
    rows: dict[int, Tensor] = {}
    left = MOST_OF_ALL
    # The small ones first, so that what they leave is shared by the large ones.
    order = sorted(range(len(parameters)), key=lambda index: parameters[index].numel())
    for place, index in enumerate(order):
        share = min(MOST_OF_ONE, left // (len(order) - place))
        rows[index] = _first_rows(parameters[index].detach(), share)
        left -= rows[index].numel()
    return [rows[index] for index in range(len(parameters))]


def _first_rows(values: Tensor, most: int) -> Tensor:
    if values.numel() <= most or not values.ndim:
        return values
    # At least one row: a parameter with a larger one has a small number of them.
    count = max(1, most // max(1, values[0].numel()))
    return values[:count]


class Norms:
    """Euclidean norms of some tensors by name, on their way to the host.

    Args:
        tensors: dense, of floating point, of any device.
        factors: what each norm is multiplied by, where it stands for more than was looked at.
    """

    def __init__(self, tensors: Mapping[str, Tensor], factors: Mapping[str, float] | None = None):
        self.names = list(tensors)
        self.factors = factors or {}
        self._copy: HostCopy | None = None
        if tensors:
            found = torch._foreach_norm(list(tensors.values()), 2, dtype=_widest(list(tensors.values())))
            device = found[0].device
            self._copy = HostCopy(torch.stack([norm.to(device, non_blocking=True) for norm in found]), own=True)

    def read(self) -> dict[str, float]:
        """Return the norms; waits until they have arrived."""
        if self._copy is None:
            return {}
        found = zip(self.names, self._copy.read().tolist(), strict=True)
        return {name: norm * self.factors.get(name, 1.0) for name, norm in found}


def _widest(tensors: Sequence[Tensor]) -> torch.dtype:
    # The norm of a half-precision tensor overflows in its own type.
    return torch.float64 if any(one.dtype is torch.float64 for one in tensors) else torch.float32
