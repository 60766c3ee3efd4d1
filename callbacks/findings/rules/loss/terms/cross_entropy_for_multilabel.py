"""A softmax over labels of which a sample has several.

Source: "wrong loss function" of N. Humbatova et al., 2020.
Cost: none beyond the targets that were read.
Risk: mixed labels (MixUp) are shares that sum to 1, which is told apart.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..seen_terms import seen_terms

# One sample in ten with several labels is a task with several labels.
_SEVERAL = 0.1


@rule("cross-entropy-for-multilabel", at="model", needs=["loaders", "settings"])
def cross_entropy_for_multilabel(probe: Probe) -> Iterator[Finding]:
    """Find cross-entropies whose targets hold several ones per sample."""
    train = probe.train
    several = _several(train) if train is not None else 0.0
    for term in seen_terms(probe):
        if train is not None and term.kind == "cross_entropy" and term.target_key in ("", train.target_key):
            if several < _SEVERAL or (term.trial is not None and term.trial.target_shape != term.trial.output_shape):
                continue
            yield Finding(
                "warning",
                f"{share(several, 1)} of the samples of {train.key} have several labels at once, and {term.name} of "
                f"term {term.label!r} lets the labels compete for one",
                "use binary cross entropy with logits",
                Where(loader=train.key, key=term.target_key or None),
                {"several": several},
            )


def _several(loader: LoaderProbe) -> float:
    """Return the share of samples with more than one label."""
    rows = [one.target for one in loader.samples.values() if one.target is not None and one.target.ndim == 1]
    if not rows or len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        return 0.0
    table = np.stack(rows)
    return float((table.sum(1) > 1).mean()) if np.isin(table, (0, 1)).all() else 0.0
