"""Masks whose borders do not lie on the edges of their images.

Source: A. Karpathy, "A Recipe for Training Neural Networks", 2019: flipping the image and forgetting the label;
alignment by cross-correlation, as in B. Reddy and B. Chatterji, 1996.
Cost: up to 32 images of at most 128 pixels per loader, four Fourier transforms each: a tenth of a second.
Risk: masks drawn roughly, roofs seen from one side, and images full of noise; so a move must fit twice as well as none,
and what has no such move is told only where the other loader's masks follow clearly, on images as sharp.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from ..places.judge import judge
from ..places.scenes import mask_scenes


@rule("masks-not-following", at="data", explained_by=["one-item", "empty-masks", "mask-sizes"])
def masks_not_following(probe: Probe) -> Iterator[Finding]:
    """Find masks that would lie on the edges of the images when flipped, moved or given to another image."""
    yield from judge(probe, "masks", mask_scenes)
