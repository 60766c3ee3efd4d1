"""A class of which a part is labelled as another, by pixels.

Source: C. Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021: wrong labels mostly
go from one class to one other; two names that were merged, or a folder that was copied into another one.
Cost: nearest neighbours of up to 1,000 samples of each loader.
Risk: classes that are alike, and augmentation that makes one class look like another. So the other loader must tell the
two apart, it must go in one direction alone, what looks wrong must be mixed with what is right, and as much must be
missing in the class.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import by_pixels
from .alike.mixed import find_mixed

_CAUSES = ("one-item", "unrelated-labels", "previous-labels", "exchanged-classes", "shifted-labels", "missing-classes")


@rule("relabelled-class", at="data", explained_by=_CAUSES)
def relabelled_class(probe: Probe) -> Iterator[Finding]:
    """Find classes of which many samples are labelled as another class, in one loader alone."""
    yield from find_mixed(by_pixels(probe), probe.settings.class_names)
