"""Whether the gradients of a step are still there when the backward pass of the next one begins."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ....support.host_copy import HostCopy

_LOOKED_AT = 3


class StaleGradients:
    """Looks at the gradients that a few parameters have when a backward pass reaches them.

    A step begins with what the step before has left where none of the backward passes in between has found the
    gradients gone, or 0. So it is no fault that batches add up to a step, nor that the backward pass of another
    optimizer goes through the same parameters before their gradients are cleared.

    Args:
        parameters: those of one optimizer.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        # The ends are most likely to have a gradient at all.
        places = sorted({round(place * (len(parameters) - 1) / (_LOOKED_AT - 1)) for place in range(_LOOKED_AT)})
        self._parameters = [parameters[place] for place in places] if parameters else []
        self._least: list[Tensor | None] = []
        self._cleared: list[bool] = []
        self._had_hooks = [parameter._backward_hooks is not None for parameter in self._parameters]
        self._begin()
        self._hooks: list[RemovableHandle] = [
            parameter.register_hook(self._hook_of(place)) for place, parameter in enumerate(self._parameters)
        ]

    def _hook_of(self, place: int) -> Callable[[Tensor], None]:
        return partial(self._look, place)

    def _begin(self) -> None:
        self._least = [None] * len(self._parameters)
        self._cleared = [False] * len(self._parameters)

    @torch.no_grad()
    def _look(self, place: int, _: Tensor) -> None:
        """Take note of what is there before the new gradient is added to it."""
        gradient = self._parameters[place].grad
        if self._cleared[place]:
            return
        if gradient is None or gradient.is_sparse:
            self._cleared[place] = True
            return
        norm = torch.linalg.vector_norm(gradient, dtype=torch.float64)
        least = self._least[place]
        self._least[place] = norm if least is None else torch.minimum(least, norm)

    def take(self) -> Callable[[], bool]:
        """Return what tells whether the gradients of this step hold those of before, and begin the next step."""
        found = [least for least, cleared in zip(self._least, self._cleared, strict=True) if not cleared]
        seen = [least for least in found if least is not None]
        self._begin()
        if not seen:
            return lambda: False
        copy = HostCopy(torch.stack([one.to(seen[0].device, non_blocking=True) for one in seen]), own=True)
        return lambda: any(norm > 0 for norm in copy.read().tolist())

    def remove(self) -> None:
        """Look no further."""
        for hook in self._hooks:
            hook.remove()
        for parameter, had in zip(self._parameters, self._had_hooks, strict=True):
            if not had and not parameter._backward_hooks:
                parameter._backward_hooks = None  # as it was: torch leaves an empty dict
        self._hooks = []
