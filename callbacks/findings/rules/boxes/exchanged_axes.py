"""Boxes whose x and y are exchanged.

Source: arrays are indexed by row and column, boxes are given by x and y; TensorFlow's boxes begin with y.
Cost: none.
Risk: only images that are not square can show it here; others show it in ``boxes-not-following``.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import boxes_of, inside, normalized

_FEWEST = 30  # boxes
_WRONG, _RIGHT = 0.93, 0.99  # share within the image as given, and exchanged: in 640 x 480, a fifth lies without


@rule("exchanged-axes", at="data", explained_by=["one-item", "normalized-boxes"])
def exchanged_axes(probe: Probe) -> Iterator[Finding]:
    """Find boxes that lie in their images only with x and y exchanged."""
    for boxes in boxes_of(probe):
        if len(boxes.all) < _FEWEST or normalized(boxes):
            continue
        given = inside(boxes.all, boxes.sizes)
        turned = inside(boxes.all[:, [1, 0, 3, 2]], boxes.sizes)
        if given.mean() <= _WRONG and turned.mean() >= _RIGHT:
            yield Finding(
                "error",
                f"x and y are exchanged in boxes of {boxes.key}: {1 - given.mean():.0%} of {len(boxes.all):,} reach "
                f"beyond their images, and with x and y the other way round {1 - turned.mean():.0%} do",
                f"give boxes of {boxes.key} as x1, y1, x2, y2: columns first",
                Where(loader=boxes.key, key=boxes.loader.target_key, samples=boxes.named(~given)),
                {"outside": 1 - float(given.mean()), "outside_exchanged": 1 - float(turned.mean())},
            )
