"""Classes that were thirty times rarer in an epoch than others, by the count of all its labels.

Source: as ``rare-classes``, which sees only what was read before training.
Cost: none beyond the counts of an epoch.
Risk: as ``rare-classes``; it speaks only where that rule could not count all labels. Of masks, pixels are counted, and
small things on a large background are that rare in healthy data: masks are left out.
"""

from collections import Counter
from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import class_counts, has_classes
from ...rarity import rare_classes_of, weighted


@rule("rarely-taught-classes", at="epoch", needs=("loaders", "epochs"), explained_by=["rare-classes"])
def rarely_taught_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of training that were thirty times rarer in the epoch that has ended."""
    train = probe.train
    if train is None or not has_classes(probe.settings) or weighted(probe.settings, train):
        return
    if any(sample.mask_values for sample in train.samples.values()):
        return
    numbers = probe.epochs[-1].label_counts.get(train.key)
    if numbers is not None and probe.settings.task != "multilabel" and not class_counts(train).complete:
        yield from rare_classes_of(probe, train, Counter(dict(enumerate(numbers.tolist()))), complete=True)
