"""An epoch of training in which no optimizer steps, or one of several never does, or hardly ever.

Source: a training loop of one's own that leaves out optimizer.step().
Cost: a count of steps.
Risk: steps of optimizers that are no torch optimizers are not seen; where there is none, the rule is left out. One of
several may begin later, so two epochs have to be over. A hundred batches for a step are more than is gathered on
purpose, unless the run was told to.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count, some

_EPOCHS = 2
_GATHERED = 100


@rule("no-optimizer-step", at="epoch", needs=("loaders", "epochs"), explained_by=["broken-epoch"])
def no_optimizer_step(probe: Probe) -> Iterator[Finding]:
    """Find a first epoch without a step, optimizers that never step, and those that step once in a hundred batches."""
    train, last = probe.train, probe.epochs[-1]
    held_back = any(epoch.non_finite_steps > 0 for epoch in probe.epochs)
    if train is None or not train.batches or probe.epochs[0].epoch != 1 or held_back or not probe.settings.groups:
        return
    steps = probe.epochs[0].steps
    if steps == 0:
        yield Finding(
            "error",
            f"no optimizer stepped in the {train.batches:,} batches of {train.key} in the first epoch, so that nothing "
            "is learned",
            "call optimizer.step() after the backward pass of a training batch",
            Where(train.key, field="optimizer"),
            {"batches": train.batches},
        )
    elif steps and train.batches >= _GATHERED * steps and probe.settings.accumulate_steps == 1:
        yield Finding(
            "warning",
            f"the optimizer stepped {count(steps, 'time')} in the {train.batches:,} batches of {train.key} in the "
            "first epoch: hundreds of batches are gathered for a step",
            "call optimizer.step() after each batch, or after some",
            Where(train.key, field="optimizer"),
            {"batches": train.batches, "steps": steps},
        )
    elif last.epoch >= min(_EPOCHS, probe.settings.epochs):
        yield from _left_out(probe)


def _left_out(probe: Probe) -> Iterator[Finding]:
    """Find those of several optimizers that have never stepped."""
    last = probe.epochs[-1]
    for name in last.steps_by_optimizer:
        made = [epoch.steps_by_optimizer.get(name, 1) for epoch in probe.epochs]
        if not any(made):
            others = {key: steps for key, steps in last.steps_by_optimizer.items() if steps}
            yield Finding(
                "warning",
                f"the optimizer {name!r} has made no step in {count(last.epoch, 'epoch')}, while "
                f"{some(map(str, others))} made {max(others.values(), default=0):,} in the last one: its parameters "
                "stay at their initial values",
                f"call step() of the optimizer {name!r} after the backward pass of its loss",
                Where(field="optimizer", key=name),
                {"epochs": last.epoch, **{str(key): steps for key, steps in others.items()}},
            )
