"""Boxes that do not lie around the things in their images.

Source: as of ``masks-not-following``.
Cost: as of ``masks-not-following``.
Risk: sides of boxes touch the edges of things in few places, so the evidence is weaker than for masks; the same tests
are asked of it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..places.judge import judge
from ..places.scenes import Scene, box_scenes
from .boxes import four

_EXPLAINED = (
    "one-item",
    "box-format",
    "exchanged-axes",
    "normalized-boxes",
    "boxes-outside",
    "box-scale",
    "missing-boxes",
)
_MOST = 300  # boxes of an image that are drawn


@rule("boxes-not-following", at="data", explained_by=_EXPLAINED)
def boxes_not_following(probe: Probe) -> Iterator[Finding]:
    """Find boxes that would lie around the things in the images when flipped, moved or given to another image."""
    yield from judge(probe, "boxes", _scenes)


def _scenes(loader: LoaderProbe) -> list[Scene]:
    return box_scenes(loader, outline)


def outline(sample: SampleProbe) -> NDArray[np.float32] | None:
    """Return where the sides of a sample's boxes lie in its kept image, [h, w]; None where there are none."""
    if sample.image is None or sample.boxes is None or len(sample.shape) < 2:
        return None
    height, width = sample.image.shape[-2:]
    scale = np.array([width / sample.shape[-1], height / sample.shape[-2]] * 2)
    lines = np.zeros((height, width), dtype=np.float32)
    for x1, y1, x2, y2 in (four(sample)[:_MOST] * scale).round().astype(int):
        columns, rows = slice(max(x1, 0), min(x2, width)), slice(max(y1, 0), min(y2, height))
        if x2 <= x1 or y2 <= y1:
            continue
        for row in {y1, y2 - 1}:
            if 0 <= row < height:
                lines[row, columns] = 1
        for column in {x1, x2 - 1}:
            if 0 <= column < width:
                lines[rows, column] = 1
    return lines if lines.any() else None
