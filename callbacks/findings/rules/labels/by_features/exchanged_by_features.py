"""Classes that training and validation have the other way round, by what the model has learned to see.

Source: as of ``exchanged-classes``.
Risk: as of ``exchanged-classes``.
Cost: shared with ``unrelated-labels-by-features``.
"""

from collections.abc import Iterator
from dataclasses import replace

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ..alike.compared import by_features
from ..alike.exchanges import find_exchanged


@rule("exchanged-classes-by-features", at="epoch", needs=["features"], explained_by=["one-item", "exchanged-classes"])
def exchanged_by_features(probe: Probe) -> Iterator[Finding]:
    """Find pairs of classes whose samples in validation have the features of the other class in training."""
    for finding in find_exchanged(by_features(probe), probe.settings.class_names):
        # No error: features of one epoch may tell of a model that learns badly.
        yield replace(finding, severity="warning")
