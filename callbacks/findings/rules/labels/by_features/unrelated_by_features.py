"""Labels that tell nothing of their samples, by what the model has learned to see.

Source: as of ``unrelated-labels``; features tell more than pixels where images are hard.
Cost: nearest neighbours of up to 1,000 samples of each loader.
Risk: a model that separates validation but nothing of training would be a strange one, but for heavy dropout, which
leaves nothing of the features of training; small data is bounded.
"""

from collections.abc import Iterator
from dataclasses import replace

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ..alike.compared import by_features
from ..alike.unrelated import find_unrelated


@rule(
    "unrelated-labels-by-features",
    at="epoch",
    needs=["features"],
    explained_by=[
        "one-item",
        "unrelated-labels",
        "previous-labels",
        "heavy-dropout",
        "leaking-samples",
        "learning-rate-too-high",
        "weights-do-not-change",
        "no-optimizer-for",
        "norm-momentum",
        "frozen-statistics",
        "evaluation-mode",
    ],
)
def unrelated_by_features(probe: Probe) -> Iterator[Finding]:
    """Find a loader whose labels are unrelated to the model's features while those of the other are related."""
    for finding in find_unrelated(by_features(probe), "samples with like features"):
        # No error: features of one epoch may tell of a model that learns badly.
        yield replace(finding, severity="warning")
