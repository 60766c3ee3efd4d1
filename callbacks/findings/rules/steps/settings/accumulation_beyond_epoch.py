"""More batches to gather for a step than an epoch has.

Source: a number of batches that was meant for a larger data set.
Cost: none.
Risk: data sets of one or two batches, where one step per epoch is all there can be.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

# In a shorter epoch one step is what there is, whatever is gathered.
_FEWEST = 3


@rule("accumulation-beyond-epoch", at="model", needs=["settings", "loaders"])
def accumulation_beyond_epoch(probe: Probe) -> Iterator[Finding]:
    """Compare the batches per step with the batches per epoch."""
    train, most = probe.train, probe.settings.accumulate_steps
    if train is not None and _FEWEST <= train.batches < most:
        yield Finding(
            "warning",
            f"gradients are gathered over {most:,} batches, and {train.key} has {train.batches:,} per epoch: there is "
            "one step per epoch or none",
            f"set accumulate_steps well below {train.batches:,}",
            Where(loader=train.key, field="accumulate_steps"),
            {"accumulate_steps": most, "batches": train.batches},
        )
