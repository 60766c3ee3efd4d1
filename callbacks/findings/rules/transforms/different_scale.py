"""Images of training and of validation in different units.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; a division by 255, or ``ToTensor``, in one place only.
Cost: the statistics of images that are read anyway.
Risk: dark or flat images in one of the loaders. Both the values and their spread have to differ 16 times.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import channel_stds, pictures
from ..ranges import FEWEST, described

# Normalizing changes a scale by 5 at most; the next unit, 255, is far beyond.
_TIMES = 16


@rule("different-scale", at="data", explained_by=["one-item"])
def different_scale(probe: Probe) -> Iterator[Finding]:
    """Find a loader for validation whose images are many times larger or smaller than those of training."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or min(len(pictures(train)), len(pictures(valid))) < FEWEST:
        return
    ratios = [_size(valid) / _size(train), _spread(valid) / _spread(train)]
    if min(ratios) > _TIMES or max(ratios) < 1 / _TIMES:
        times = ratios[0] if ratios[0] > 1 else 1 / ratios[0]
        yield Finding(
            "error",
            f"images of {train.key} run from {described(train)} and those of {valid.key} from {described(valid)}:"
            f" they differ {times:.0f} times in scale",
            "scale and normalize the images of both in the same way",
            Where(f"{train.key}, {valid.key}", train.image_key),
            {"ratio": ratios[0], "ratio_of_stds": ratios[1]},
        )


def _size(loader: LoaderProbe) -> float:
    return float(np.median([max(abs(sample.low), abs(sample.high)) for sample in pictures(loader)]))


def _spread(loader: LoaderProbe) -> float:
    return max(float(np.median(channel_stds(pictures(loader)).mean(1))), 1e-12)
