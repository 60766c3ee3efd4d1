"""Classes that a loader lacks.

Source: a split by folders or by a sorted list; "unbalanced or missing classes" of N. Humbatova et al., 2020.
Cost: a count of labels.
Risk: a small set lacks a class by chance. A class counts as missing only where as many samples as were counted should
have held it eight times; a set of other classes altogether is a task of its own (retrieval), and is left out.
"""

from collections.abc import Iterator, Mapping

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import ClassCounts, class_counts, has_classes
from ...missing import missing_classes_of

_CAUSES = ["one-item", "label-base", "labels-outside", "undrawn-classes", "skipped-samples"]


@rule("missing-classes", at="data", explained_by=_CAUSES)
def missing_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes that training or validation lacks, or that no loader has."""
    if has_classes(probe.settings):
        yield from missing_classes_of(probe, counts_of(probe), by_labels=True)


def counts_of(probe: Probe) -> Mapping[str, ClassCounts]:
    """Return what was counted for the first loader of training and of validation."""
    loaders = [loader for loader in (probe.train, probe.valid) if loader is not None]
    return {loader.key: class_counts(loader) for loader in loaders}
