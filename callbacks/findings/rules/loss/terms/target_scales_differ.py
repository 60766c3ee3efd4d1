"""Numbers to be learned whose scale in validation is another than in training.

Source: targets that are normalized in one of two data sets; "missing normalization" of N. Humbatova et al., 2020.
Cost: none beyond the targets that were read.
Risk: a validation set from elsewhere; a factor of five leaves room for that.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule

_RATIO = 5.0
_FEWEST = 16


@rule("target-scales-differ", at="data", explained_by=["one-item"])
def target_scales_differ(probe: Probe) -> Iterator[Finding]:
    """Compare the standard deviation of the targets of a regression between training and validation."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or train.target_key != valid.target_key:
        return
    ours, others = _numbers(train), _numbers(valid)
    if min(len(ours), len(others)) < _FEWEST or ours.shape[1] != others.shape[1]:
        return
    one, other = float(ours.std(0).mean()), float(others.std(0).mean())
    if min(one, other) > 0 and max(one, other) > _RATIO * min(one, other):
        yield Finding(
            "warning",
            f"targets {train.target_key!r} have another scale in {valid.key} than in {train.key} (standard deviation "
            f"{other:.3g} and {one:.3g}): they are scaled in one of them only",
            "scale the targets of all loaders by the same numbers, those of training",
            Where(loader=f"{train.key}, {valid.key}", key=train.target_key),
            {"train": one, "valid": other},
        )


def _numbers(loader: LoaderProbe) -> NDArray[np.float64]:
    rows = [one.target for one in loader.samples.values() if one.target is not None and one.target.dtype.kind == "f"]
    if not rows or len({row.size for row in rows}) > 1:
        return np.zeros((0, 0))
    table = np.stack([row.reshape(-1) for row in rows]).astype(np.float64)
    # Zeros and ones are labels.
    return np.zeros((0, 0)) if np.isin(table, (0, 1)).all() or not np.isfinite(table).all() else table
