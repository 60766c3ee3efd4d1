"""Images with NaN or infinity.

Source: a division by a standard deviation of 0, or missing values of a scan; A. Karpathy, 2019.
Cost: one pass over images that are read anyway.
Risk: none known; one such image turns every weight into NaN.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share, some
from ..pictures import names_of


@rule("non-finite-images", at="data")
def non_finite_images(probe: Probe) -> Iterator[Finding]:
    """Find images whose values are not all numbers."""
    for loader in probe.loaders.values():
        bad = [sample for sample in loader.samples.values() if sample.non_finite]
        if bad:
            follows = "weights become NaN" if loader.trains else "metrics become NaN"
            yield Finding(
                "error",
                f"{len(bad):,} of {len(loader.samples):,} images of {loader.key}"
                f" ({share(len(bad), len(loader.samples))}) hold NaN or infinity ({some(one.name for one in bad)}),"
                f" from which {follows}",
                "look for a division by zero or a logarithm in how images are read, or for missing values",
                Where(loader.key, loader.image_key, names_of(bad)),
                {"non_finite": len(bad), "images": len(loader.samples)},
            )
