"""A class of which a part is labelled as another, by what the model has learned to see.

Source: as of ``relabelled-class``.
Risk: as of ``relabelled-class``.
Cost: nearest neighbours of up to 1,000 samples of each loader.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ..alike.compared import by_features
from ..alike.mixed import find_mixed

_CAUSES = ("one-item", "unrelated-labels", "previous-labels", "exchanged-classes", "shifted-labels", "missing-classes")
_BY_FEATURES = ("unrelated-labels-by-features", "exchanged-classes-by-features", "shifted-labels-by-features")


@rule(
    "relabelled-class-by-features",
    at="epoch",
    needs=["features"],
    explained_by=("relabelled-class", *_CAUSES, *_BY_FEATURES),
)
def relabelled_by_features(probe: Probe) -> Iterator[Finding]:
    """Find classes of which many samples with their features are labelled as another class, in one loader alone."""
    yield from find_mixed(by_features(probe), probe.settings.class_names)
