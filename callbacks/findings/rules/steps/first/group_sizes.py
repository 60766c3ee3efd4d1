"""How large the first steps of groups of parameters are whose learning rates are far apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite, prod, sqrt
from statistics import median

from ....probe.probe import Probe
from ....probe.settings_probe import GroupProbe
from ....probe.steps_probe import StepProbe
from ....probe.wording import some
from ...model.parts import modules_of
from .updates import weight_names

_FIRST = 5
_HUGE = 1e9  # of an update that is not finite


@dataclass(frozen=True)
class Side:
    """The groups on one side of the largest gap between learning rates.

    Attributes:
        lr: the one that is nearest to the gap.
        indices: of the groups.
        names: of all of their parameters.
        weights: of those that are weights.
        size: of the first updates, in parts of the weights as they begin.
    """

    lr: float
    indices: tuple[int, ...]
    names: tuple[str, ...]
    weights: tuple[str, ...]
    size: float


def sides(probe: Probe) -> tuple[Side, Side] | None:
    """Return the groups with low and with high learning rates; None where there are no two, or no steps of both."""
    groups, steps = probe.settings.groups, probe.steps.steps if probe.steps is not None else ()
    order = sorted((index for index, group in enumerate(groups) if group.lr > 0), key=lambda index: groups[index].lr)
    gaps = [groups[after].lr / groups[before].lr for before, after in pairwise(order)]
    if not gaps:
        return None
    cut = gaps.index(max(gaps)) + 1
    low, high = order[:cut], order[cut:]
    found = [_side(probe, groups, part, at, steps) for part, at in ((low, low[-1]), (high, high[0]))]
    return (found[0], found[1]) if found[0] is not None and found[1] is not None else None


def _side(
    probe: Probe, groups: Sequence[GroupProbe], indices: Sequence[int], at: int, steps: Sequence[StepProbe]
) -> Side | None:
    names = tuple(name for index in indices for name in groups[index].parameters)
    weights = weight_names(probe) & {*names}
    scales = _scales(probe, steps, weights)
    found = [
        median(size if isfinite(size) else _HUGE for size in sizes)
        for step in steps[:_FIRST]
        if (sizes := [step.update[name] / scale for name, scale in scales.items() if name in step.update])
    ]
    if len(found) < min(3, _FIRST):
        return None
    return Side(groups[at].lr, tuple(sorted(indices)), names, tuple(sorted(weights)), median(found))


def _scales(probe: Probe, steps: Sequence[StepProbe], names: frozenset[str]) -> dict[str, float]:
    """Return the size of weights before the first step, or that at which torch begins them where it is larger."""
    shapes = {it.name: it.shape for it in probe.model.parameters} if probe.model is not None else {}
    first = next((step.weight for step in steps if step.weight), {})
    usual = {name: sqrt(prod(shapes[name]) / (3 * prod(shapes[name][1:]))) for name in names if name in shapes}
    scales = {name: max(first.get(name, 0.0), usual.get(name, 0.0)) for name in names}
    return {name: scale for name, scale in scales.items() if scale > 0 and isfinite(scale)}


def told(side: Side, other: Side) -> str:
    """Return which groups they are, with their layers."""
    groups = f"group {side.indices[0]}" if len(side.indices) == 1 else f"groups {', '.join(map(str, side.indices))}"
    return f"{groups} ({some(modules_of(side.names, other.names))})"
