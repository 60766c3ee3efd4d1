"""Training on very few samples.

Source: a model has more parameters than that by orders of magnitude; A. Karpathy, 2019.
Cost: none.
Risk: a first try on a few samples is no fault, so it is a note.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count

# Five samples for each of ten classes.
_FEW = 50


@rule("too-few-samples", at="data")
def too_few_samples(probe: Probe) -> Iterator[Finding]:
    """Find training loaders of very few samples."""
    for loader in probe.loaders.values():
        if loader.trains and 0 < loader.length < _FEW:
            yield Finding(
                "note",
                f"{loader.key} has only {count(loader.length, 'sample')}, which a model soon knows by heart",
                "train on more samples, or start from pretrained weights",
                Where(loader.key),
                {"samples": loader.length},
            )
