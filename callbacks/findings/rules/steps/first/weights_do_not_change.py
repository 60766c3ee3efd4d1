"""Steps that leave all weights as they are.

Source: an optimizer of another model's parameters; a learning rate of 0; steps that are all held back.
Cost: the norms of the first updates.
Risk: a gradient scaler holds its first steps back; so ten steps have to be watched.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_FEWEST = 5
# A scaler that begins at 65536 has found its scale by then.
_FEWEST_SCALED = 25


@rule("weights-do-not-change", at="steps", needs=["steps"], explained_by=[
    "schedule-at-zero", "all-frozen", "output-without-gradient", "loss-without-gradient", "zero-weights",
    "constant-loss", "outputs-not-finite", "weights-not-finite", "loss-not-finite", "dead-units",
])  # fmt: skip
def weights_do_not_change(probe: Probe) -> Iterator[Finding]:
    """Find runs in which no watched parameter changes in any step."""
    steps = probe.steps.steps if probe.steps is not None else ()
    measured = [step for step in steps if step.update]
    needed = _FEWEST_SCALED if any(step.scale is not None for step in steps) else _FEWEST
    if len(steps) < needed or len(measured) < 3 or any(any(step.update.values()) for step in measured):
        return
    rates = [max(step.lr, default=1.0) for step in measured]
    if not any(rates):
        yield Finding(
            "warning",
            f"the learning rate is 0 in all of the first {len(steps)} steps: no weight changes",
            "look at the learning rate and at the first steps of its schedule",
            Where(field="lr"),
            {"steps": len(steps)},
        )
        return
    if not any(any(step.grads.values()) for step in measured):
        yield Finding(
            "error",
            f"the optimizer's parameters have no gradients when it steps, so no weight has changed after {len(steps)} "
            "steps",
            "see that it has the parameters of the model that is trained, and that optimizer.zero_grad() does not come "
            "between backward() and optimizer.step()",
            Where(field="optimizer"),
            {"steps": len(steps)},
        )
        return
    yield Finding(
        "error",
        f"no weight has changed after {len(steps)} steps at a learning rate of {max(rates):g}",
        "look at whether the optimizer was given the parameters of the model that is trained",
        Where(field="optimizer"),
        {"steps": len(steps)},
    )
