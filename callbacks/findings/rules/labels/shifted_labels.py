"""Classes that are numbered one higher or lower in training than in validation, by pixels.

Source: labels that count from 1 in one file and from 0 in another, as in N. Humbatova et al., 2020.
Cost: shared with ``unrelated-labels``.
Risk: classes of one order, such as ages, in images that differ in brightness; three times as many samples must fit the
shift as fit without, in most classes.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import by_pixels
from .alike.exchanges import find_shifted


@rule("shifted-labels", at="data", explained_by=["one-item", "different-orientation"])
def shifted_labels(probe: Probe) -> Iterator[Finding]:
    """Find labels of training that are all one higher or lower than those of like images in validation."""
    yield from find_shifted(by_pixels(probe))
