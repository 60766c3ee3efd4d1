"""Images of training and of validation that are normalized differently.

Source: "wrong preprocessing" of N. Humbatova et al., 2020.
Cost: the statistics of images that are read anyway.
Risk: splits that differ by nature. Values that differ are not enough: one loader has to be without any negative value
and within 0 to 1 where the other is centred, black and white have to be other numbers, levels of 8 bits have to lie on
other grids, each image has to be brought to
mean 0 and deviation 1 in one loader only, or no image of one may be as bright, or as rich in contrast, as any of the
other.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..comparing import distance
from ..pictures import channel_means, channel_stds, pictures
from ..ranges import described, ends, from_0_to_1, standardized
from ..recovered import Recovered, recovered

_FEWEST = 16
# So much wider steps are those of 42 levels at most, and of no other normalization.
_FEW_LEVELS = 6.0
# Noise leaves the mean where it is; normalizing moves it by 0.3 and more, or makes the deviation several times larger.
_SHIFTED, _WIDER = 0.1, 2.0
# Black or white that differs by so much of the range is another normalization: of one channel, and of several, which
# have each their own black and white and may be the brightest in one loader only.
_OF_RANGE, _OF_CHANNELS = 0.02, 0.15
# Means of images that do not overlap, ...
_APART = 0.98
# ... and lie so many deviations of pixels apart.
_DEVIATIONS = 1.5
# The same for the deviation of pixels within images; a normalization too many multiplies it by 4.4 with the constants
# of ImageNet, and by 2.5 or more with most others.
_TIMES = 2.4


# Deviations that differ so many times, and means by so many of them, matter to a model.
_OTHER_STD, _SHIFT, _CLEARLY = 1.08, 0.1, 1.3
# Of the range, by which black or white has moved; of a step, by which a level is off the other grid.
_END, _OFF_GRID, _WHOLE = 0.04, 0.2, 0.02
_CAUSES = [
    "one-item", "different-scale", "wrong-channel-order", "normalized-twice", "mean-of-another-scale", "rounded-images",
]  # fmt: skip


@rule("different-statistics", at="data", explained_by=_CAUSES)
def different_statistics(probe: Probe) -> Iterator[Finding]:
    """Find a loader for validation whose images are normalized in another way than those of training."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or min(len(pictures(train)), len(pictures(valid))) < _FEWEST:
        return
    ways = (_one_without, _one_standardized, _recovered, _ends, _apart)
    what = next((it for it in (way(train, valid) for way in ways) if it), "")
    if what:
        means = {loader.key: _overall(loader) for loader in (train, valid)}
        yield Finding(
            "warning",
            what,
            "normalize the images of both with the same mean and std",
            Where(f"{train.key}, {valid.key}", train.image_key),
            {"mean_and_std": {key: [round(value, 4) for value in values] for key, values in means.items()}},
        )


def _overall(loader: LoaderProbe) -> tuple[float, float]:
    seen = pictures(loader)
    means, stds = channel_means(seen), channel_stds(seen)
    return float(means.mean()), float(np.sqrt((stds**2 + means**2).mean() - means.mean() ** 2))


def _figures(loader: LoaderProbe) -> str:
    mean, std = _overall(loader)
    return f"mean {mean:.2f}, std {std:.2f}, {described(loader)}"


def _one_without(train: LoaderProbe, valid: LoaderProbe) -> str:
    for one, other in ((train, valid), (valid, train)):
        # Most images of a normalized loader have values below the mean; that all of another have none, and stay below
        # 1 as well, is no chance.
        centred = np.mean([sample.low < -0.1 for sample in pictures(other)]) > 0.5
        if centred and from_0_to_1(pictures(one)) and _apart_as_a_whole(one, other):
            return (
                f"images of {other.key} are normalized ({_figures(other)}) and those of {one.key} are not"
                f" ({_figures(one)})"
            )
    return ""


def _apart_as_a_whole(one: LoaderProbe, other: LoaderProbe) -> bool:
    """Return whether more than noise, which goes below 0 as well, lies between the loaders."""
    (mean, std), (other_mean, other_std) = _overall(one), _overall(other)
    return abs(mean - other_mean) > _SHIFTED or other_std > _WIDER * std


def _one_standardized(train: LoaderProbe, valid: LoaderProbe) -> str:
    for one, other in ((train, valid), (valid, train)):
        # An augmentation after it changes mean and deviation of an image, so only two readings that agree count.
        if standardized(pictures(one)) and not standardized(pictures(other)) and not other.augments:
            return (
                f"each image of {one.key} is brought to mean 0 and deviation 1 by itself, those of {other.key} are not"
                f" ({_figures(other)})"
            )
    return ""


def _recovered(train: LoaderProbe, valid: LoaderProbe) -> str:
    one, other = recovered(train), recovered(valid)
    if one is None or other is None or len(one.black) != len(other.black) or not _differ(one, other):
        return ""
    return (
        f"images of {train.key} are normalized with {one.shown()}, those of {valid.key} with {other.shown()}, as their"
        " black and white tell"
    )


def _differ(one: Recovered, other: Recovered) -> bool:
    ratios = np.maximum(one.std / other.std, other.std / one.std)
    shift = np.abs(one.mean - other.mean) / np.minimum(one.std, other.std)
    # Images of fewer levels that were rounded to 8 bits lie on a grid of nearly whole multiples; ends do not show it.
    if (one.steps is not None or other.steps is not None) and ratios.min() > _FEW_LEVELS and np.ptp(ratios) < 0.3:
        return False
    if one.steps is None or other.steps is None:
        return _ends_differ(one, other, ratios)
    # Images of fewer bits lie on a grid of whole multiples.
    if (np.abs(ratios - np.rint(ratios)) < _WHOLE).all() and np.ptp(ratios) < _WHOLE and ratios.min() > 1.5:
        return False
    # The same grid: another black is that of other images.
    places = np.abs(one.black - other.black) / one.steps
    other_place = np.abs(places - np.rint(places)) > _OFF_GRID
    return bool(ratios.max() > _OTHER_STD or (other_place.any() and one.sure and other.sure and shift.max() > _SHIFT))


def _ends_differ(one: Recovered, other: Recovered, ratios: NDArray[np.float64]) -> bool:
    if not (one.sure and other.sure):
        # A grid tells the deviation without black; the ends of the other have to be clearly nearer or further.
        of_grid = any(it.steps is not None and not it.sure for it in (one, other))
        closer = (one.std > other.std).all() or (one.std < other.std).all()
        return of_grid and bool(closer and ratios.min() > _CLEARLY)
    # Black and white that many images have may still be those of a camera: both have to be others.
    size = np.maximum(one.white - one.black, other.white - other.black)
    black, white = np.abs(one.black - other.black) / size, np.abs(one.white - other.white) / size
    return bool(ratios.max() > _OTHER_STD and (np.maximum(black, white) > _END).all())


def _same_grid(train: LoaderProbe, valid: LoaderProbe) -> bool:
    one, other = recovered(train), recovered(valid)
    if one is None or other is None or one.steps is None or other.steps is None or len(one.steps) != len(other.steps):
        return False
    return bool((np.abs(one.steps / other.steps - 1) < _WHOLE).all()) and not _differ(one, other)


def _ends(train: LoaderProbe, valid: LoaderProbe) -> str:
    one, other = ends(train), ends(valid)
    # What levels tell of the constants says more.
    if one is None or other is None or (recovered(train) is not None and recovered(valid) is not None):
        return ""
    size = max(one[1] - one[0], other[1] - other[0])
    far = (_OF_CHANNELS if len(pictures(train)[0].mean) > 1 else _OF_RANGE) * size
    black, white = abs(one[0] - other[0]) > far, abs(one[1] - other[1]) > far
    # Another mean or deviation moves both; only where black is 0, it stays there.
    if not white or not (black or one[0] == other[0] == 0):
        return ""
    return (
        f"black and white are {one[0]:.3g} and {one[1]:.3g} in images of {train.key} but {other[0]:.3g} and"
        f" {other[1]:.3g} in those of {valid.key}, so they are normalized differently"
    )


def _apart(train: LoaderProbe, valid: LoaderProbe) -> str:
    means = [channel_means(pictures(loader)) for loader in (train, valid)]
    # Levels on the same grid were normalized alike: one loader shows the night, or is darkened on purpose.
    if means[0].shape[1] != means[1].shape[1] or _same_grid(train, valid):
        return ""
    std = float(np.mean([channel_stds(pictures(loader)).mean() for loader in (train, valid)]))
    shift = np.abs(means[0].mean(0) - means[1].mean(0))
    both = f"images of {train.key} ({_figures(train)}) and of {valid.key} ({_figures(valid)}) have nothing in common in"
    if _overlap(*means) >= _APART and shift.min() >= _DEVIATIONS * std:
        return f"{both} their brightness"
    stds = [channel_stds(pictures(loader)) for loader in (train, valid)]
    ratios = stds[0].mean(0) / np.maximum(stds[1].mean(0), 1e-12)
    if _overlap(*stds) >= _APART and (ratios.min() > _TIMES or ratios.max() < 1 / _TIMES):
        return f"{both} their contrast"
    return ""


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return min(distance(one[:, channel], other[:, channel]) for channel in range(one.shape[1]))
