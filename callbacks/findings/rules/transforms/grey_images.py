"""Images that are grey in one loader and coloured in the other, or have a channel without content.

Source: ``cv2.IMREAD_GRAYSCALE`` or ``convert("L")`` in one place; a channel that a mask, a slice or a wrong axis has
emptied; "wrong preprocessing" of N. Humbatova et al., 2020.
Cost: correlations of channels of the small images that are read anyway.
Risk: augmentation makes some images grey on purpose, so all of a loader have to be; a data set of grey photographs in
both is none of its business, nor are drawings of one colour on a ground of one value. The fourth channel of four is
opacity, which is mostly constant.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count
from ..pictures import pictures

_FEWEST = 16
_MOST = 200  # images; more tell nothing new
# Channels of a grey image are the same but for their normalization; those of the dullest photograph are not.
_SAME, _COLOURED = 0.9999, 0.995
# Of the coloured loader so many have to be coloured: augmentation may take the colour of some.
_SHARE = 0.5
_ROUNDING = 1e-6
# Within it, ratios of deviations are the same but for the rounding of dark images, and in so many they may not be.
_RATIO = 0.05
# Of the deviation, and of the pixels: those of a grey image that was padded or erased in colour are mostly grey still.
_NEAR, _MOST_GREY = 0.05, 0.5
# Of the range, and of the pixels: the ground of a drawing is of one value.
_GROUND, _GROUND_SHARE = 0.02, 0.25


@rule("grey-images", at="data", explained_by=["one-item", "blank-images"])
def grey_images(probe: Probe) -> Iterator[Finding]:
    """Find a loader of grey images beside one of coloured images, and channels that are the same in each image."""
    train, valid = probe.train, probe.valid
    for loader in (train, valid):
        if loader is not None and (empty := _empty(loader)):
            yield Finding(
                "warning",
                f"{count(len(empty), 'channel')} of the images of {loader.key} ({', '.join(map(str, empty))}, counted"
                " from 0) hold one value for all pixels, while others vary",
                "look at how images are read and put together, and leave out channels without content",
                Where(loader.key, loader.image_key),
                {"channels": empty},
            )
            return
    if train is None or valid is None:
        return
    for grey, other in ((train, valid), (valid, train)):
        one, two = _alike(grey), _alike(other)
        if min(len(one), len(two)) < _FEWEST or one.min() <= _SAME:
            continue
        share = _coloured(other, two, _tints(grey))
        if share > _SHARE:
            yield Finding(
                "warning",
                f"all images of {grey.key} are grey (their channels are the same), those of {other.key} are coloured",
                "read the images of both in colour, or of both in grey",
                Where(f"{train.key}, {valid.key}", train.image_key),
                {"grey": grey.key, "coloured": share},
            )


def _seen(loader: LoaderProbe) -> list[SampleProbe]:
    return [it for it in pictures(loader)[:_MOST] if it.small is not None and len(it.mean) > 1]


def _empty(loader: LoaderProbe) -> list[int]:
    """Return the channels that are constant in every image, of images with others that are not."""
    seen = _seen(loader)
    if len(seen) < _FEWEST or len({len(it.std) for it in seen}) > 1:
        return []
    largest = np.array([it.std for it in seen]).max(0)
    # The deviation of a constant is off zero by rounding.
    empty = np.flatnonzero(largest < _ROUNDING * max(1.0, *(abs(value) for value in seen[0].mean))).tolist()
    only_opacity = len(largest) == 4 and empty == [3]
    return [] if only_opacity or len(empty) == len(largest) or _drawn(seen) else empty


def _drawn(seen: list[SampleProbe]) -> bool:
    """Return whether images are drawings on a ground of one value, which may well be red on black."""
    grounds = []
    for sample in seen:
        if sample.small is not None:
            plane = sample.small[int(np.argmax(sample.std))]
            ends = [np.abs(plane - end) <= _GROUND * np.ptp(plane) for end in (plane.min(), plane.max())]
            grounds.append(max(float(at_end.mean()) for at_end in ends))
    return float(np.median(grounds)) > _GROUND_SHARE


def _tints(loader: LoaderProbe) -> NDArray[np.float64] | None:
    """Return the deviations of channels against the first one; None where images are drawings in many colours."""
    stds = np.array([it.std for it in _seen(loader) if len(it.std) == 3 and min(it.std) > 0])
    ratios = stds / stds[:, :1]
    usual: NDArray[np.float64] = np.median(ratios, 0)
    return usual if (np.abs(ratios / usual - 1) < _RATIO).mean() > 1 - _RATIO else None


def _coloured(loader: LoaderProbe, alike: NDArray[np.float64], tints: NDArray[np.float64] | None) -> float:
    """Return the share of images whose channels differ, and not just in a part that was padded, erased or cut off."""
    planes = [it.small.reshape(3, -1) for it in _seen(loader) if it.small is not None and len(it.small) == 3]
    if tints is None or not planes:
        return 0.0
    return min(float((alike < _COLOURED).mean()), float(np.mean([_off_grey(one, tints) for one in planes])))


def _off_grey(planes: NDArray[np.float32], tints: NDArray[np.float64]) -> bool:
    rest = planes[1:] - tints[1:, None] * planes[:1]
    near = np.abs(rest - np.median(rest, 1, keepdims=True)) <= _NEAR * planes[1:].std(1, keepdims=True)
    return bool(near.mean(1).min() < _MOST_GREY)


def _alike(loader: LoaderProbe) -> NDArray[np.float64]:
    """Return of each image with three channels the smallest correlation between two of them."""
    found = []
    for sample in _seen(loader):
        if sample.small is not None and len(sample.small) == 3 and min(sample.std) > 0:
            flat = sample.small.reshape(3, -1).astype(np.float64)
            flat = flat - flat.mean(1, keepdims=True)
            norms = np.linalg.norm(flat, axis=1)
            if norms.min() > 0:
                together = flat @ flat.T / np.outer(norms, norms)
                found.append(min(together[0, 1], together[0, 2], together[1, 2]))
    return np.array(found)
