"""How large the steps are beside the weights."""

from collections.abc import Sequence
from statistics import median

from ....probe.probe import Probe
from ....probe.steps_probe import StepProbe


def weight_names(probe: Probe) -> frozenset[str]:
    """Return the parameters with two axes or more, as far as shapes are known: biases begin at 0."""
    shapes = {it.name: it.shape for it in probe.model.parameters} if probe.model is not None else {}
    seen = {name for step in (probe.steps.steps if probe.steps else ()) for name in step.weight}
    return frozenset(name for name in seen if len(shapes[name]) >= 2) if seen <= set(shapes) else frozenset(
        name for name in seen if not name.endswith("bias")
    )  # fmt: skip


def ratios(step: StepProbe, names: frozenset[str]) -> dict[str, float]:
    """Return the size of an update in parts of the weight, of weights that are not 0."""
    known = {name: size for name, size in step.update.items() if name in names and step.weight.get(name, 0) > 0}
    return {name: size / step.weight[name] for name, size in known.items()}


def ratio(step: StepProbe, names: frozenset[str]) -> float | None:
    """Return the middle one of a step; None where none was seen."""
    found = ratios(step, names)
    return median(found.values()) if found else None


def seen_ratios(steps: Sequence[StepProbe], names: frozenset[str]) -> list[float]:
    """Return the middle ratio of each step that was measured."""
    return [one for one in (ratio(step, names) for step in steps) if one is not None]
