"""``Measure``: the Protocol of all measures that count over a loader on all ranks."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from ..support.distributed import reduce_state

Reductions = Mapping[str, Literal["sum", "min", "max"]]


@runtime_checkable
class Measure(Protocol):
    """Counts batches into a state of tensors, which declares how it is reduced over ranks.

    The state is valid before the first update, as a rank may see no batch: reducing it then changes nothing of the
    other ranks. Names, shapes and types stay the same, and ``update`` reads nothing from the device, so that a step
    never waits for it. Whatever follows from a state, reduced or not, is a method or function beside the class.

    Attributes:
        reductions: for each name of the state how it is reduced over ranks.
        state: tensors on one device.
    """

    # Declared per class, so that every rank packs the same tensors for the same collective, whatever it has seen.
    reductions: ClassVar[Reductions]
    state: dict[str, Tensor]

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Add one batch, or one step of the optimizer."""
        ...


def is_on_cpu(tensor: Tensor) -> bool:
    """Return whether a tensor is on a CPU, where little work is better than few operations; on a GPU it is not."""
    return tensor.device.type == "cpu"


def reduce_measure(measure: Measure) -> dict[str, Tensor]:
    """Return the state of all ranks together, the same on each. A collective: every rank calls it."""
    return reduce_state(measure.state, measure.reductions)
