"""Label smoothing that leaves little of the label.

Source: C. Szegedy et al., 2016, whose 0.1 is the usual share.
Cost: none.
Risk: none that is known: above 0.5, less than half of a target is its label.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_MOST = 0.5


@rule("label-smoothing", at="model", needs=["settings"])
def label_smoothing(probe: Probe) -> Iterator[Finding]:
    """Find criteria that smooth labels by a half and more."""
    for term in probe.settings.terms:
        if term.criterion.label_smoothing >= _MOST:
            yield Finding(
                "warning",
                f"{term.criterion.name} of term {term.label!r} smooths labels by {term.criterion.label_smoothing:g}: "
                f"only {1 - term.criterion.label_smoothing:.0%} of each target is its label",
                "set label_smoothing to 0.1 or less",
                Where(key=term.target, field="label_smoothing"),
                {"label_smoothing": term.criterion.label_smoothing},
            )
