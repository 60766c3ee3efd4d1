"""A share of labels that are wrong, by pixels.

Source: C. Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, and their "Pervasive
Label Errors in Test Sets", 2021.
Cost: nearest neighbours of up to 1,000 samples of each loader.
Risk: classes that are alike. Votes must be right in validation, or two votes that share no sample must agree with each
other and the wrong labels must be spread over all classes: natural confusion does neither.
"""

from collections.abc import Iterator

from ...probe.finding import Finding
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import by_pixels
from .alike.noise import find_noise

_CAUSES = (
    "one-item", "different-orientation", "shared-images", "unrelated-labels", "previous-labels", "exchanged-classes",
    "shifted-labels", "relabelled-class",
)  # fmt: skip


@rule("noisy-labels", at="data", explained_by=_CAUSES)
def noisy_labels(probe: Probe) -> Iterator[Finding]:
    """Estimate the share of labels that neighbours contradict, where neighbours are right otherwise."""
    yield from find_noise(by_pixels(probe))
