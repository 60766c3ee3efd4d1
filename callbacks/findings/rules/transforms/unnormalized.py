"""Images without the normalization that callbacks were told.

Source: "missing preprocessing" of N. Humbatova et al., 2020.
Cost: the smallest and largest values of images that are read anyway.
Risk: images that are bright throughout. None of them may have a value below 0, which is the mean once normalized, and
all have to lie within 0 to 1, or 0 to 255.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures
from ..ranges import FEWEST, Normalization, described, from_0_to_1, from_0_to_255, told


@rule("unnormalized", at="data", explained_by=["one-item", "different-scale", "different-statistics"])
def unnormalized(probe: Probe) -> Iterator[Finding]:
    """Find loaders with images from 0 to 1, or 0 to 255, though a mean and a deviation were told."""
    normalization = told(probe)
    missing = [one for one in probe.loaders.values() if normalization is not None and _without(one, normalization)]
    if missing and normalization is not None:
        keys = [loader.key for loader in missing]
        mean = ", ".join(f"{value:.3g}" for value in normalization.mean)
        std = ", ".join(f"{value:.3g}" for value in normalization.std)
        yield Finding(
            "warning",
            f"images of {' and '.join(keys)} are not normalized: they run from {described(missing[0])}, while"
            f" {normalization.callback} was told mean {mean} and std {std}",
            "add the normalization to the transforms, or leave mean and std out of the callbacks",
            Where(", ".join(keys), missing[0].image_key),
            {"range": described(missing[0]), "mean": list(normalization.mean), "std": list(normalization.std)},
        )


def _without(loader: LoaderProbe, normalization: Normalization) -> bool:
    seen = pictures(loader)
    # Close to nothing below the mean: only a mean well above 0 makes that impossible.
    if len(seen) < FEWEST or min(normalization.mean) < 0.02:
        return False
    return from_0_to_1(seen) or from_0_to_255(seen)
