"""A share of labels that are wrong, by what the model has learned to see.

Source: as of ``noisy-labels``.
Risk: as of ``noisy-labels``.
Cost: nearest neighbours of up to 1,000 samples of each loader.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ..alike.compared import by_features
from ..alike.noise import find_noise

_CAUSES = (
    "one-item", "shared-images", "unrelated-labels", "previous-labels", "exchanged-classes", "shifted-labels",
    "relabelled-class",
)  # fmt: skip
_BY_FEATURES = (
    "unrelated-labels-by-features", "exchanged-classes-by-features", "shifted-labels-by-features",
    "relabelled-class-by-features",
)  # fmt: skip
# A net that has seen its data once takes some percent of sound samples for others: 5% of the digits of scikit-learn.
_LEAST = 0.08


@rule(
    "noisy-labels-by-features", at="epoch", needs=["features"], explained_by=("noisy-labels", *_CAUSES, *_BY_FEATURES)
)
def noisy_by_features(probe: Probe) -> Iterator[Finding]:
    """Estimate the share of labels that neighbours by features contradict, where these are right otherwise."""
    yield from find_noise(by_features(probe), _LEAST)
