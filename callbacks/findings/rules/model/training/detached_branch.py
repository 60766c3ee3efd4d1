"""Layers whose output is used, yet whose parameters get no gradient: a ``detach`` or the like is in the way.

Source: ``.detach()``, ``.data``, ``torch.no_grad()``, ``.item()``, NumPy or an ``argmax`` in the middle of ``forward``.
Cost: one backward pass that other rules need as well.
Risk: a stop-gradient on purpose, as in self-distillation; there the layer gets a gradient on its other way, or is
frozen, and is not told of. Nor is a layer that no optimizer has, as the features of a model that was trained before.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import owner, told


@rule("detached-branch", at="model", needs=["model"], explained_by=["all-frozen", "head-without-loss"])
def detached_branch(probe: Probe) -> Iterator[Finding]:
    """Tell of layers with trainable parameters to which no gradient comes back, the first one by name."""
    if probe.model is None or probe.model.loss is None:
        return
    reached = {owner(it.name) for it in probe.model.parameters if it.grad_norm is not None}
    optimized = {owner(it.name) for it in probe.model.parameters if it.optimized}
    names = [name for name in probe.model.detached if name not in reached and name in optimized]
    if not names or not reached:
        return
    yield Finding(
        "warning",
        f"no gradient comes back to {told(names)}: between {names[-1]!r} and the loss the forward pass cuts it off, "
        "so nothing is learned there",
        f"remove detach(), .data, no_grad(), item(), numpy() or argmax() from what follows {names[-1]!r}",
        Where(layer=names[0]),
        {"layers": names[:8], "count": len(names)},
    )
