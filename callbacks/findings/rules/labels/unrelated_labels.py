"""Labels that tell nothing of their images, by pixels.

Source: C. Zhang et al., "Understanding deep learning requires rethinking generalization", 2017: a net learns random
labels by heart, so that the training loss does not show them.
Cost: nearest neighbours of up to 1,000 samples of each loader, a tenth of a second for all rules on labels.
Risk: augmentation as strong as to hide the class in pixels; so no view may tell anything, and shifts and flips are
seen through. Where pixels tell nothing of validation either, as in most hard data, it is silent.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import by_pixels
from .alike.unrelated import find_unrelated


@rule("unrelated-labels", at="data", explained_by=["one-item", "different-orientation", "previous-labels"])
def unrelated_labels(probe: Probe) -> Iterator[Finding]:
    """Find a loader whose labels are unrelated to its images while those of the other loader are related."""
    yield from find_unrelated(by_pixels(probe), "images that look alike")
