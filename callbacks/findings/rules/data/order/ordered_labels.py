"""Training that takes one class after the other.

Source: N. Humbatova et al., 2020 ("wrong shuffling"); sorted lists of files and ``shuffle=False``.
Cost: a count of the classes of each batch.
Risk: batches of a metric loss hold few classes by design. Their sampler draws; only an order that is not drawn counts.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import has_classes

# Half of the classes that batches drawn at random would have: imbalance cannot do that, as chance has it too.
_PART = 0.5
# Batches of fewer samples have few classes in any order.
_SMALLEST_BATCH, _FEWEST_BATCHES = 4, 3


@rule("ordered-labels", at="data", explained_by=["one-item"])
def ordered_labels(probe: Probe) -> Iterator[Finding]:
    """Find training loaders that are not shuffled and whose batches hold few classes."""
    for loader in probe.loaders.values():
        drawn = loader.shuffles or (len(loader.later_order) and [*loader.order] != [*loader.later_order])
        if loader.trains and not drawn and has_classes(probe.settings):
            yield from _of_loader(loader)


def _of_loader(loader: LoaderProbe) -> Iterator[Finding]:
    batches = _batches(loader)
    if len(batches) < _FEWEST_BATCHES:
        return
    labels = loader.known_labels()
    if not len(labels):
        labels = np.concatenate(batches)
    seen = float(np.mean([len(set(batch.tolist())) for batch in batches]))
    expected = _expected(labels, min(len(batch) for batch in batches))
    if expected < 1.5 or seen > max(1.0, _PART * expected):
        return
    yield Finding(
        "warning",
        f"{loader.key} is not shuffled and its labels are in an order: a batch holds {seen:.1f} classes where batches"
        f" drawn at random would hold {expected:.1f}",
        f"shuffle {loader.key} (shuffle=True)",
        Where(loader.key, loader.target_key),
        {"classes_per_batch": seen, "expected": expected},
    )


def _batches(loader: LoaderProbe) -> list[NDArray[np.int64]]:
    """Return the labels of full batches: of the whole epoch where they are known, else of the first batches."""
    size = loader.batch_size or 0
    known = _labels_in_order(loader)
    if size >= _SMALLEST_BATCH and len(known) >= _FEWEST_BATCHES * size:
        return [known[start : start + size] for start in range(0, len(known) - size + 1, size)]
    batches = [np.array(batch.labels) for batch in loader.batches_seen]
    return [batch for batch in batches if len(batch) >= _SMALLEST_BATCH]


def _labels_in_order(loader: LoaderProbe) -> NDArray[np.int64]:
    order = np.asarray(loader.order, dtype=np.int64)
    if loader.labels is not None and len(order) and order.max() < len(loader.labels):
        return np.asarray(loader.labels[order])
    labels = [loader.samples[index].label for index in order.tolist()] if loader.complete and not loader.errors else []
    return np.array([label for label in labels if label is not None], dtype=np.int64)


def _expected(labels: NDArray[np.int64], size: int) -> float:
    """Return how many classes a batch of this size holds on average, drawn at random."""
    _, counts = np.unique(labels, return_counts=True)
    shares = counts / counts.sum()
    return float((1 - (1 - shares) ** size).sum())
