"""An epoch of training in which no optimizer steps.

Source: a training loop of one's own that leaves out optimizer.step().
Cost: a count of steps.
Risk: steps of optimizers that are no torch optimizers are not seen; where there is none, the rule is left out.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule


@rule("no-optimizer-step", at="epoch", needs=("loaders", "epochs"), explained_by=["broken-epoch"])
def no_optimizer_step(probe: Probe) -> Iterator[Finding]:
    """Find a first epoch without a step."""
    train, first = probe.train, probe.epochs[0]
    held_back = first.non_finite_steps > 0
    if (
        train is None
        or not train.batches
        or first.epoch != 1
        or first.steps != 0
        or held_back
        or not probe.settings.groups
    ):
        return
    yield Finding(
        "error",
        f"no optimizer stepped in the {train.batches:,} batches of {train.key} in the first epoch, so that nothing is "
        "learned",
        "call optimizer.step() after the backward pass of a training batch",
        Where(train.key, field="optimizer"),
        {"batches": train.batches},
    )
