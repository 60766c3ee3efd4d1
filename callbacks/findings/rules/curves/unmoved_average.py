"""A moving average of the weights that has hardly moved when it is validated.

Source: a decay of 0.9999, as it is published for a million steps, in a run of some hundred; "EMA without warm-up".
Cost: some numbers of each parameter are compared, three times an epoch.
Risk: the first epoch of a long run; so the way that it will have gone at the end counts. An average that was never
updated may begin later, and is named in the last epoch alone.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share

# Of the way of the trained weights, at the end of the run: three quarters of it are gone at a usual decay.
_HARDLY = 0.15
_FEWEST_STEPS = 10


@rule("unmoved-average", at="epoch", needs=["epochs"], explained_by=["weights-do-not-change", "broken-epoch"])
def unmoved_average(probe: Probe) -> Iterator[Finding]:
    """Compare how far validated and trained weights have come in an epoch."""
    last, epochs = probe.epochs[-1], probe.settings.epochs
    steps = (last.steps or 0) * last.epoch
    if last.average is None or steps < _FEWEST_STEPS or (not last.average.moved and last.epoch < epochs):
        return
    total = steps * max(epochs, last.epoch) // last.epoch
    at_end = last.average.moved * total / steps
    decay = 1 - 2 * last.average.moved / steps  # that leads so far in one direction
    if last.average.decay is not None:
        decay = last.average.decay
        at_end = min(at_end, 1 - decay**total)
    if at_end < _HARDLY:
        name = f"the copy {last.average.name!r}" if last.average.name else "weights put in the place of the model's own"
        yield Finding(
            "warning",
            f"validation uses a moving average ({name}) that has hardly moved in {steps:,} steps: at a decay of "
            f"{'' if last.average.decay else 'about '}{decay:.5g} it will have gone {share(at_end, 1)} of the way of "
            f"the trained weights at the end of the run of {total:,} steps, and is near the initial weights",
            f"lower the decay to about {1 - 10 / max(20, total):.2g}, or let it rise from 0 in the first steps, as "
            "min(decay, (1 + step) / (10 + step)) does",
            Where(field="ema_decay"),
            {"moved": last.average.moved, "at_end": at_end, "steps": steps, "decay": decay},
        )
