"""How often each class occurs in training, as far as it was seen."""

from collections.abc import Mapping

import numpy as np

from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ...class_counts import class_counts
from ..seen_terms import SeenTerm


def occurring(probe: Probe, term: SeenTerm) -> Mapping[int, float]:
    """Return the share of each class among the targets of a term; of masks, that of its pixels.

    Where the targets of the term are not those that were read, only classes of the first batch are known.
    """
    train = probe.train
    if train is not None and term.target_key in ("", train.target_key):
        shares = _of_masks(train) or _of_labels(train)
        if shares:
            return shares
    costs = term.trial.of_class if term.trial is not None else {}
    return dict.fromkeys(costs, 1 / max(1, len(costs)))


def _of_labels(loader: LoaderProbe) -> dict[int, float]:
    counted = class_counts(loader)
    return {label: number / counted.samples for label, number in counted.counts.items() if number}


def _of_masks(loader: LoaderProbe) -> dict[int, float]:
    rows = [one for one in loader.samples.values() if one.mask_values]
    found: dict[int, float] = {}
    for one in rows:
        for value, part in zip(one.mask_values, one.mask_shares, strict=False):
            if np.isclose(value, round(value)):
                found[round(value)] = found.get(round(value), 0.0) + part / len(rows)
    return found
