"""Validation on so few samples that its figures say little.

Source: the binomial error of an accuracy.
Cost: none.
Risk: a first try on a few samples is no fault, so it is a note.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count

# An accuracy of 0.8 on 50 images is known to 6 points, one standard error.
_FEW = 50


@rule("small-validation", at="data")
def small_validation(probe: Probe) -> Iterator[Finding]:
    """Find validation loaders of which one sample moves a metric by points."""
    for loader in probe.loaders.values():
        if loader.key.startswith("valid") and 0 < loader.length < _FEW:
            yield Finding(
                "note",
                f"{loader.key} has only {count(loader.length, 'sample')}: one of them moves an accuracy by"
                f" {100 / loader.length:.0f} points",
                "validate on more samples before comparing runs",
                Where(loader.key),
                {"samples": loader.length},
            )
