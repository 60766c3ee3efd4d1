"""Classes that are numbered one higher or lower in training than in validation, by what the model sees.

Source: as of ``shifted-labels``.
Risk: as of ``shifted-labels``.
Cost: shared with ``unrelated-labels-by-features``.
"""

from collections.abc import Iterator
from dataclasses import replace

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ..alike.compared import by_features
from ..alike.exchanges import find_shifted


@rule("shifted-labels-by-features", at="epoch", needs=["features"], explained_by=["one-item", "shifted-labels"])
def shifted_by_features(probe: Probe) -> Iterator[Finding]:
    """Find labels of training that are all one higher or lower than those of validation with like features."""
    for finding in find_shifted(by_features(probe)):
        # No error: features of one epoch may tell of a model that learns badly.
        yield replace(finding, severity="warning")
