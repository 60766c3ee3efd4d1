"""The labels of single samples, and samples that show the same but have different ones."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..probe.finding import Labelled
from ..probe.loader_probe import SampleProbe
from ..probe.settings_probe import SettingsProbe

_MOST = 1000  # groups, which checkpoints hold
_OF_YES_OR_NO = ("binary", "multilabel")


def label_of(sample: SampleProbe, settings: SettingsProbe) -> tuple[int, ...] | None:
    """Return the class number of a sample, or a 0 or 1 of each of its labels; None where it has none that is whole.

    Args:
        sample: whose targets are classes or labels.
        settings: of the run.
    """
    target = sample.target
    if target is None or target.ndim > 1:
        return None
    is_whole = target.dtype.kind in "iub"
    if not is_whole and not (settings.task in _OF_YES_OR_NO and np.isin(target, (0, 1)).all()):
        return None
    return tuple(int(one) for one in target.reshape(-1).tolist())


def labelled_groups(
    groups: Iterable[Sequence[tuple[str, SampleProbe]]], settings: SettingsProbe
) -> tuple[tuple[Labelled, ...], ...]:
    """Return the first 1,000 groups of samples of which at least two have different labels.

    Args:
        groups: key of the loader and sample, of each sample of a group.
        settings: of the run.
    """
    found: list[tuple[Labelled, ...]] = []
    for group in groups:
        named = [(loader, sample.name, label_of(sample, settings)) for loader, sample in group]
        known = tuple(Labelled(loader, name, label) for loader, name, label in named if label is not None)
        if len({one.label for one in known}) > 1:
            found.append(known)
        if len(found) == _MOST:
            break
    return tuple(found)
