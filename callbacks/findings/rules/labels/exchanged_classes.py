"""Classes that training and validation have the other way round, by pixels.

Source: class folders listed in another order on another machine; two names exchanged in a list.
Cost: shared with ``unrelated-labels``.
Risk: classes that look alike are confused in both directions about as often as not; each loader must tell them apart
by itself, and a sign test over all pairs must exclude chance.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import by_pixels
from .alike.exchanges import find_exchanged


@rule("exchanged-classes", at="data", explained_by=["one-item", "different-orientation"])
def exchanged_classes(probe: Probe) -> Iterator[Finding]:
    """Find pairs of classes whose images in validation look like those of the other class in training."""
    yield from find_exchanged(by_pixels(probe), probe.settings.class_names)
