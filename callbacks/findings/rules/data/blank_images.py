"""Images of one value: black, white or grey.

Source: "missing or blank data" among the checks of cleanlab's Datalab (dark, light, low information).
Cost: the smallest and largest value of images that are read anyway.
Risk: tiles of maps and slices of scans have blank ones at the edge; a few of them are told as a note. So are those of a
class that means that nothing is there.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share, some
from ..pictures import has_image, names_of

_HARMFUL, _WORTHLESS, _OF_CLASS = 0.01, 0.5, 0.5


@rule("blank-images", at="data", explained_by=["blank-after-augmentation", "rounded-images"])
def blank_images(probe: Probe) -> Iterator[Finding]:
    """Find loaders with images whose pixels are all alike."""
    for loader in probe.loaders.values():
        blank, seen = blanks(loader), len(with_image(loader))
        if blank:
            yield _finding(loader, blank, seen)


def with_image(loader: LoaderProbe) -> list[SampleProbe]:
    """Return the samples with a finite image."""
    return [one for one in loader.samples.values() if has_image(one)]


def blanks(loader: LoaderProbe) -> list[SampleProbe]:
    """Return the samples whose image has one value only, or one in each channel."""
    return [one for one in with_image(loader) if one.is_blank]


def _finding(loader: LoaderProbe, blank: list[SampleProbe], seen: int) -> Finding:
    part = 0.0 if _are_a_class(loader, blank) else len(blank) / seen
    severity: Severity = "error" if part >= _WORTHLESS else "warning" if part >= _HARMFUL else "note"
    values = {one.high for one in blank if one.high == one.low}
    of = f", all of value {min(values):.3g}" if len(values) == 1 and len(blank) > 1 else ""
    return Finding(
        severity,
        f"{len(blank):,} of {seen:,} images of {loader.key} ({share(len(blank), seen)}) are blank{of}"
        f" ({some(one.name for one in blank)})",
        "look at their files and at how they are read, and leave blank images out",
        Where(loader.key, loader.image_key, names_of(blank)),
        {"blank": len(blank), "images": seen},
    )


def _are_a_class(loader: LoaderProbe, blank: list[SampleProbe]) -> bool:
    """Return whether all blank images have one label, and are most of those that have it."""
    label = blank[0].label
    if label is None or any(one.label != label for one in blank):
        return False
    return len(blank) > _OF_CLASS * sum(one.label == label for one in with_image(loader))
