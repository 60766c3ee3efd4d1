"""Classes that a data set holds and its sampler never draws.

Source: weights of a ``WeightedRandomSampler`` that are 0, or of another order than the samples; a list of indices.
Cost: a count of labels by the order of two epochs.
Risk: a sampler with few draws leaves out a rare class by chance. A class counts as left out only where its share of the
draws would have held it eight times; where samplers split one data set, each part lacks classes on purpose only if the
other has them, which ``missing-classes`` tells.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import class_name
from ...class_counts import has_classes

_EXPECTED = 8  # draws; a class with so many comes to none once in 3,000 samplers
_SHARE_DRAWN = 0.5  # of the data set, below which the sampler takes a part of it


@rule("undrawn-classes", at="data", explained_by=["one-item"])
def undrawn_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of which a training loader has samples and draws none."""
    if not has_classes(probe.settings):
        return
    for loader in probe.loaders.values():
        if loader.trains and loader.labels is not None and len(loader.order):
            yield from _undrawn(loader, loader.labels, probe)


def _undrawn(loader: LoaderProbe, labels: np.ndarray, probe: Probe) -> Iterator[Finding]:
    order = np.array([*loader.order, *loader.later_order])
    # Fewer draws than samples may be a split of one data set by samplers.
    if order.max() >= len(labels) or len(loader.order) < _SHARE_DRAWN * len(labels):
        return
    drawn = set(labels[order].tolist())
    values, counts = np.unique(labels, return_counts=True)
    expected = counts / len(labels) * len(order)
    lost = [int(it) for it, many in zip(values, expected, strict=True) if int(it) not in drawn and many >= _EXPECTED]
    if not lost:
        return
    names = ", ".join(class_name(index, probe.settings.class_names) for index in lost[:5])
    has = int(counts[np.isin(values, lost)].sum())
    yield Finding(
        "warning",
        f"the sampler of {loader.key} ({loader.sampler}) never draws class {names}, of which the data set has {has:,} "
        f"of {len(labels):,} samples: the model cannot learn it",
        "give the sampler weights in the order of the samples, and none of 0",
        Where(loader=loader.key, key=loader.target_key),
        {"classes": lost, "samples": has, "draws": len(order)},
    )
