"""Modules with trainable parameters that the forward pass never goes through.

Source: a layer that was defined and forgotten, or called twice in the place of another, is the first thing that
Karpathy's recipe (2019) asks to look for; torch's DistributedDataParallel refuses such models.
Cost: hooks on one forward pass.
Risk: parameters that are used without calling their module get gradients, and are not told of. Experts that a router
did not choose for the first batch are left out by name.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ModelProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import size, told


@rule("unused-modules", at="model", needs=["model"], explained_by=["all-frozen", "output-without-gradient"])
def unused_modules(probe: Probe) -> Iterator[Finding]:
    """Find uncalled modules whose parameters get no gradient either."""
    if probe.model is None or probe.model.loss is None:
        return
    names = [name for name in probe.model.uncalled if "expert" not in name.lower() and _unused(probe.model, name)]
    names = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    if not names:
        return
    inside = [it for it in probe.model.parameters if any(it.name.startswith(f"{name}.") for name in names)]
    part = share(size(inside), size(probe.model.parameters))
    yield Finding(
        "warning",
        f"the forward pass never calls {told(names, 'module')}, {part} of the model's numbers",
        "call it in forward(), or remove it; perhaps another layer is called in its place",
        Where(layer=names[0]),
        {"modules": names[:8], "numbers": size(inside)},
    )


def _unused(model: ModelProbe, name: str) -> bool:
    inside = [it for it in model.parameters if it.name.startswith(f"{name}.")]
    # What the first pass makes could not be watched.
    inside = [it for it in inside if it.name not in model.late_parameters]
    return any(it.trains for it in inside) and all(it.grad_norm is None for it in inside)
