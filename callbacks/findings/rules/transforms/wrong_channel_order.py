"""Red and blue exchanged between training and validation.

Source: OpenCV reads BGR; "wrong preprocessing" of N. Humbatova et al., 2020.
Cost: the mean of each channel of images that are read anyway.
Risk: splits of other colours. By how much red exceeds blue has to be distributed differently in both loaders and alike
once the channels of one are exchanged, and green has to fit as it is; grey images show nothing.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..comparing import chance, distance
from ..pictures import channel_means, pictures
from ..ranges import Normalization, told

_FEWEST = 24
_IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "")
_NONE = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "")
# Distance of the distributions: far apart as they are, near after the exchange, where jitter may widen one of them.
_APART, _NEAR = 0.5, 0.4
# Red of one loader against blue of the other: brighter or darker ones are images of another kind, or broken.
_ALIKE = 0.7


@rule("wrong-channel-order", at="data", explained_by=["one-item", "different-scale"])
def wrong_channel_order(probe: Probe) -> Iterator[Finding]:
    """Find a loader for validation whose first and third channels are exchanged against training."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or not (_coloured(train) and _coloured(valid)):
        return
    means = [channel_means(pictures(loader)) for loader in (train, valid)]
    # Exchanged before they are normalized, channels fit only without the normalization.
    normalizations = [_NONE, _IMAGENET]
    known = told(probe)
    if known is not None and len(known.mean) == 3:
        normalizations.append(known)
    if any(_exchanged(*(one * np.array(it.std) + np.array(it.mean) for one in means)) for it in normalizations):
        shown = [", ".join(f"{value:.2f}" for value in one.mean(0)) for one in means]
        yield Finding(
            "warning",
            f"red and blue are exchanged between {train.key} and {valid.key}: the means of the channels are"
            f" {shown[0]} in {train.key} and {shown[1]} in {valid.key}",
            "read the images of both as RGB (cv2.cvtColor(image, cv2.COLOR_BGR2RGB))",
            Where(f"{train.key}, {valid.key}", train.image_key),
            {train.key: means[0].mean(0).round(4).tolist(), valid.key: means[1].mean(0).round(4).tolist()},
        )


def _coloured(loader: LoaderProbe) -> bool:
    seen = pictures(loader)
    return len(seen) >= _FEWEST and all(len(sample.mean) == 3 for sample in seen)


def _exchanged(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    red, green = (
        [it[:, 0] - it[:, 2] for it in (one, other)],
        [it[:, 1] - it[:, [0, 2]].mean(1) for it in (one, other)],
    )
    as_is, turned = distance(*red), distance(red[0], -red[1])
    error = chance(len(one), len(other))
    opposite = red[0].mean() * red[1].mean() < 0
    near = turned < max(_NEAR * as_is, error) and distance(*green) < max(_NEAR, error)
    alike = max(distance(one[:, channel], other[:, 2 - channel]) for channel in range(3)) < max(_ALIKE, error)
    return opposite and as_is > max(_APART, 1.5 * error) and near and alike
