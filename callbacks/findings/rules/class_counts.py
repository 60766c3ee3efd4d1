"""How often each class occurs in a loader, as far as its labels are known."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..probe.loader_probe import LoaderProbe
from ..probe.settings_probe import SettingsProbe

_OF_CLASSES = ("cross_entropy", "nll", "bce_logits", "bce", "focal", "dice")
_TASKS = ("multiclass", "binary", "multilabel")


@dataclass(frozen=True)
class ClassCounts:
    """Samples of each class, of how many samples they were counted, and whether these are all."""

    counts: Counter[int]
    samples: int
    complete: bool

    @property
    def labels(self) -> set[int]:
        """The classes that occur."""
        return {label for label, number in self.counts.items() if number}


def has_classes(settings: SettingsProbe) -> bool:
    """Return whether targets are classes, as far as the task or the criteria tell."""
    kinds = {term.criterion.kind for term in settings.terms}
    return settings.task in _TASKS if settings.task else not kinds or not kinds.isdisjoint(_OF_CLASSES)


def ignored_labels(settings: SettingsProbe) -> set[int]:
    """Return the labels that do not count for a criterion."""
    return {-100, *(term.criterion.ignore_index for term in settings.terms if term.criterion.ignore_index is not None)}


def class_counts(loader: LoaderProbe) -> ClassCounts:
    """Count the classes of a loader: of one label per sample, or of several labels that are 0 or 1."""
    if loader.labels is not None:
        return ClassCounts(Counter(loader.labels.tolist()), len(loader.labels), True)
    known = loader.known_labels()
    if len(known):
        return ClassCounts(Counter(known.tolist()), len(known), loader.complete)
    return _several_labels(loader)


def _several_labels(loader: LoaderProbe) -> ClassCounts:
    rows = [one.target for one in loader.samples.values() if one.target is not None and one.target.ndim == 1]
    alike = rows and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1
    table = np.stack(rows) if alike else np.zeros((0, 0))
    if not np.isin(table, (0, 1)).all():
        table = np.zeros((0, 0))
    counts = Counter({index: int(number) for index, number in enumerate(table.sum(0))})
    return ClassCounts(counts, len(table), loader.complete)


def imbalance(counts: Counter[int]) -> tuple[int, int]:
    """Return the most frequent class and the rarest one that occurs."""
    present = {label: number for label, number in counts.items() if number}
    return max(present, key=lambda label: present[label]), min(present, key=lambda label: present[label])
