"""Augmentation in validation: a second reading gives other images.

Source: transforms of training that are passed to validation; A. Karpathy, 2019 ("fix random seed").
Cost: a second reading of a few samples.
Risk: validation without targets may compare random views on purpose, and is left out.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share
from ..pictures import names_of

# An augmentation that is drawn one time in ten changes one pair of readings in five.
_FEWEST, _PART = 8, 0.1


@rule("validation-augmented", at="data")
def validation_augmented(probe: Probe) -> Iterator[Finding]:
    """Find loaders for validation that return other images on a second reading."""
    for loader in probe.loaders.values():
        if loader.key.startswith("valid") and loader.target_key and not loader.trains:
            twice = [sample for sample in loader.samples.values() if sample.index in loader.again and sample.shape]
            other = [sample for sample in twice if loader.again[sample.index] != sample.digest]
            if len(twice) >= _FEWEST and len(other) >= _PART * len(twice):
                yield _finding(loader, other, len(twice))


def _finding(loader: LoaderProbe, other: list[SampleProbe], read: int) -> Finding:
    return Finding(
        "warning",
        f"{loader.key} is augmented: {len(other):,} of {read:,} of its images ({share(len(other), read)}) are others"
        " when they are read again, so its metrics vary by chance",
        f"leave random transforms out of {loader.key}",
        Where(loader.key, loader.image_key, names_of(other)),
        {"others": len(other), "read": read},
    )
