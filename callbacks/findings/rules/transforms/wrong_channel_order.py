"""Red and blue exchanged between training and validation.

Source: OpenCV reads BGR; "wrong preprocessing" of N. Humbatova et al., 2020.
Cost: the mean of each channel of images that are read anyway.
Risk: splits of other colours. By how much red exceeds blue has to be distributed differently in both loaders and alike
once the channels of one are exchanged, as good as the same where nothing is augmented, and green has to fit as it is;
grey images show nothing. Exchanged after they were normalized, channels have black and white in the reverse order.
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
from ..recovered import recovered, with_ends

_FEWEST = 24
_IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "")
_NONE = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "")
# Distance of the distributions: far apart as they are, near after the exchange, where jitter may widen one of them.
_APART, _NEAR = 0.5, 0.4
# Red of one loader against blue of the other: brighter or darker ones are images of another kind, or broken.
_ALIKE = 0.7
# The same for the mean of a channel, in parts of what separates red from blue. Dusk may be as blue as noon is red, but
# hardly to that part, nor as bright as what was made brighter or darker at random.
_OFF, _OFF_AUGMENTED = 0.3, 0.45
# Where nothing is drawn, all distances have to be as small as those of halves of one data set.
_CHANCE = 1.1
# Of constants that black and white tell: as good as the same, and different.
_EXACT, _MOVED = 0.01, 0.04


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
    normalizations += _by_values(train, valid)
    undone = ([one * np.array(it.std) + np.array(it.mean) for one in means] for it in normalizations)
    if _reversed(train, valid):
        yield _finding(train, valid, means, " (mean and std by which they were normalized are exchanged as well)")
    elif any(_exchanged(*both, augmented=train.augments or valid.augments) for both in undone):
        yield _finding(train, valid, means, "")


def _finding(train: LoaderProbe, valid: LoaderProbe, means: list[NDArray[np.float64]], also: str) -> Finding:
    shown = [", ".join(f"{value:.2f}" for value in one.mean(0)) for one in means]
    return Finding(
        "warning",
        f"red and blue are exchanged between {train.key} and {valid.key}: the means of the channels are"
        f" {shown[0]} in {train.key} and {shown[1]} in {valid.key}{also}",
        "read the images of both as RGB (cv2.cvtColor(image, cv2.COLOR_BGR2RGB))",
        Where(f"{train.key}, {valid.key}", train.image_key),
        {train.key: means[0].mean(0).round(4).tolist(), valid.key: means[1].mean(0).round(4).tolist()},
    )


def _reversed(train: LoaderProbe, valid: LoaderProbe) -> bool:
    """Return whether the constants of one loader are those of the other in the reverse order."""
    one, other = recovered(train), recovered(valid)
    if one is None or other is None or one.steps is None or other.steps is None or not (one.sure and other.sure):
        return False
    mean, std = np.abs(one.mean - other.mean[::-1]).max(), np.abs(one.std / other.std[::-1] - 1).max()
    return bool(max(mean, std) < _EXACT and np.abs(one.mean - other.mean).max() > _MOVED)


def _by_values(train: LoaderProbe, valid: LoaderProbe) -> list[Normalization]:
    """Return what may have been done to both, as their black and white tell."""
    ends = [(one.black, one.white) for one in (recovered(train), recovered(valid)) if one is not None]
    seen = [*with_ends(train), *with_ends(valid)]
    if all(len(it.lows) == 3 for it in seen) and seen:
        ends.append((np.array([it.lows for it in seen]).min(0), np.array([it.highs for it in seen]).max(0)))
    stds = [(black, 1 / (white - black)) for black, white in ends if len(black) == 3 and (white > black).all()]
    return [Normalization(tuple(-black * std), tuple(std), "") for black, std in stds]


def _coloured(loader: LoaderProbe) -> bool:
    seen = pictures(loader)
    return len(seen) >= _FEWEST and all(len(sample.mean) == 3 for sample in seen)


def _exchanged(one: NDArray[np.float64], other: NDArray[np.float64], *, augmented: bool) -> bool:
    red, green = (
        [it[:, 0] - it[:, 2] for it in (one, other)],
        [it[:, 1] - it[:, [0, 2]].mean(1) for it in (one, other)],
    )
    as_is, turned = distance(*red), distance(red[0], -red[1])
    error = chance(len(one), len(other))
    opposite = red[0].mean() * red[1].mean() < 0
    alike = max(distance(one[:, channel], other[:, 2 - channel]) for channel in range(3))
    if not opposite or as_is <= max(_APART, 1.5 * error):
        return False
    off = np.abs(one.mean(0) - other.mean(0)[::-1]).max() / abs(float(red[0].mean()))
    if off > (_OFF_AUGMENTED if augmented else _OFF):
        return False
    if not augmented:
        return max(turned, distance(*green), alike) < _CHANCE * error
    near = turned < max(_NEAR * as_is, error) and distance(*green) < max(_NEAR, error)
    return near and alike < max(_ALIKE, error)
