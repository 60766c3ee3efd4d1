"""Classes that are thirty times rarer than others, with nothing that evens it out.

Source: "unbalanced training data" of N. Humbatova et al., 2020; M. Buda et al., "A Systematic Study of the Class
Imbalance Problem in Convolutional Neural Networks", 2018.
Cost: a count of labels.
Risk: imbalance that is fine. Nothing is said below 30 to 1, where the loss has weights or a focal term, where a sampler
evens it out, and of data with several labels, whose labels are rare by nature.
"""

from collections import Counter
from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import class_counts, has_classes
from ...rarity import rare_classes_of, weighted


@rule("rare-classes", at="data", explained_by=["one-item"])
def rare_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of training that are thirty times rarer than the most frequent one."""
    train = probe.train
    if train is None or not has_classes(probe.settings) or weighted(probe.settings, train):
        return
    counts = class_counts(train)
    order = [*train.order]
    if train.labels is not None and order and max(order) < len(train.labels):
        drawn = Counter(train.labels[order].tolist())
        # A class that the sampler never gives is another fault.
        rarest = {label: drawn[label] or number for label, number in counts.counts.items()}
        yield from rare_classes_of(probe, train, Counter(rarest), complete=True)
    elif any(sample.label is not None for sample in train.samples.values()):
        yield from rare_classes_of(probe, train, counts.counts, complete=counts.complete)
