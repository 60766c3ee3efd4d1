"""Classes that an epoch did not hold, by the count of all its labels.

Source: as ``missing-classes``, which sees only what was read before training.
Cost: none beyond the counts of an epoch.
Risk: as ``missing-classes``; it speaks only where that rule could not count all labels.
"""

from collections import Counter
from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import ClassCounts, class_counts, has_classes
from ...missing import missing_classes_of

_CAUSES = ["one-item", "missing-classes", "label-base", "undrawn-classes", "skipped-samples"]


@rule("untaught-classes", at="epoch", needs=("loaders", "epochs"), explained_by=_CAUSES)
def untaught_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes that no batch of training, or of validation, held in the epoch that has ended."""
    counts = {
        key: ClassCounts(Counter(dict(enumerate(numbers.tolist()))), int(numbers.sum()), True)
        for key, numbers in probe.epochs[-1].label_counts.items()
        if key in probe.loaders and numbers.sum()
    }
    known = all(class_counts(probe.loaders[key]).complete for key in counts)
    if has_classes(probe.settings) and not known:
        yield from missing_classes_of(probe, counts)
