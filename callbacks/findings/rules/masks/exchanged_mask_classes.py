"""Classes of masks that training and validation have the other way round, or number one higher or lower.

Source: palettes and lists of names that were made twice; as of ``exchanged-classes``.
Cost: means over the regions of up to 64 masks per loader.
Risk: classes that look alike; so each loader must tell them apart by itself, by colours or by shapes, and a sign test
over all pairs of classes must exclude chance.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding
from ...probe.loader_probe import SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..places.regions import Marks
from ..places.renumbered import find_renumbered
from .masks import voids

_MOST_VALUES = 50
_CAUSES = ("one-item", "inverted-masks", "mask-scale", "interpolated-masks", "masks-not-following", "empty-masks")


@rule("exchanged-mask-classes", at="data", explained_by=_CAUSES)
def exchanged_mask_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of masks whose regions in validation look like those of another class in training."""
    do = "number the classes of the masks of both from one list, and draw a mask of each on its image"
    yield from find_renumbered(probe, _cut, "masks", do=do)


def _cut(sample: SampleProbe) -> Iterator[tuple[int, Marks]]:
    mask = sample.mask
    if mask is None or mask.ndim != 2 or len(sample.mask_values) > _MOST_VALUES:
        return
    void = voids(set(sample.mask_values))
    for value in sample.mask_values:
        if value not in void and value == int(value) and value >= 0:
            yield int(value), np.asarray(mask == value)
