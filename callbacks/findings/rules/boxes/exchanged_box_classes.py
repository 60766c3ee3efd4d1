"""Labels of boxes that training and validation have the other way round, or number one higher or lower.

Source: as of ``exchanged-classes``; names of categories are listed once for each file.
Cost: means over the boxes of up to 64 images per loader.
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
from .boxes import four

_CAUSES = (
    "one-item", "box-format", "exchanged-axes", "normalized-boxes", "boxes-outside", "box-scale", "boxes-not-following",
    "box-labels",
)  # fmt: skip
_MOST = 30  # boxes of an image


@rule("exchanged-box-classes", at="data", explained_by=_CAUSES)
def exchanged_box_classes(probe: Probe) -> Iterator[Finding]:
    """Find labels of boxes that hold in validation what other labels hold in training."""
    do = "number the labels of the boxes of both from one list, and draw the boxes of an image of each"
    yield from find_renumbered(probe, _cut, "boxes", do=do, key="labels")


def _cut(sample: SampleProbe) -> Iterator[tuple[int, Marks]]:
    image, labels = sample.image, sample.box_labels
    if image is None or labels is None or sample.boxes is None or len(sample.shape) < 2:
        return
    boxes, numbers = four(sample), np.asarray(labels).reshape(-1)
    if len(numbers) != len(boxes):
        return
    height, width = image.shape[-2:]
    scale = np.array([width / sample.shape[-1], height / sample.shape[-2]] * 2)
    for (x1, y1, x2, y2), label in zip((boxes * scale).round().astype(int)[:_MOST], numbers, strict=False):
        inside = np.zeros((height, width), dtype=bool)
        inside[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
        yield int(label), inside
