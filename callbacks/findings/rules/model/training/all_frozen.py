"""A model of which no parameter trains.

Source: ``requires_grad=False`` on the whole model is the second half of many fine-tuning tutorials gone wrong.
Cost: none.
Risk: none: there is nothing to train.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule


@rule("all-frozen", at="model", needs=["model"])
def all_frozen(probe: Probe) -> Iterator[Finding]:
    """Tell that ``requires_grad`` is False everywhere."""
    parameters = probe.model.parameters if probe.model else ()
    late = probe.model.late_parameters if probe.model else ()
    if parameters and not late and not any(it.trains for it in parameters):
        yield Finding(
            "error",
            f"all {len(parameters):,} parameters of the model are frozen (requires_grad is False): nothing is learned",
            "leave at least the head trainable, and freeze before the new head is put in",
            evidence={"parameters": len(parameters)},
        )
