"""Images of a few whole numbers, as a cast to integers leaves of values of about 1.

Source: "wrong type of data" of N. Humbatova et al., 2020; ``astype("uint8")`` or ``.long()`` after a division by 255 or
a normalization.
Cost: distinct values in the middle of up to 64 images of a loader.
Risk: drawings of two values, maps of classes and boards of games are whole numbers by nature. Where both loaders have
them, there have to be four values or more, some below 0, in pictures of 16 pixels and more; or 0 and a little 1, in
three channels that are not the same, or next to images that are blank; or callbacks have to know of a normalization,
which leaves no whole numbers.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe, SampleProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ...ranges import described, told

_FEWEST = 12
# Values of one image, and of a loader from the smallest to the largest: what is left of a normalization.
_MOST = 16
_WIDEST = 12
_SIDE = 16
_ALL, _MOSTLY = 0.97, 0.7
# Share of white and black pixels, in images of which a cast left only those.
_OTHERS = 0.3
# Share of blank images, of those that have neither white nor black pixels.
_BLANK = 0.5


@rule("rounded-images", at="data", explained_by=["one-item"])
def rounded_images(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose images have nothing but a few whole numbers."""
    rounded = [loader for loader in probe.loaders.values() if _rounded(loader)]
    if not rounded:
        return
    others = [it for it in probe.loaders.values() if it not in rounded and _continuous(it)]
    if not others and not any(_no_picture(loader, probe) for loader in rounded):
        return
    keys = [loader.key for loader in rounded]
    low, high = _reach(rounded[0])
    against = f", while those of {others[0].key} run from {described(others[0])} in fractions" if others else ""
    yield Finding(
        "warning",
        f"images of {' and '.join(keys)} have nothing but whole numbers, from {low} to {high}{against}: values were"
        " cast to integers, or rounded, after a division or a normalization",
        "keep images as floats from the division by 255 on",
        Where(", ".join(keys), rounded[0].image_key),
        {"low": low, "high": high},
    )


def _seen(loader: LoaderProbe) -> list[SampleProbe]:
    return [it for it in loader.samples.values() if it.levels is not None and min(it.shape[-2:], default=0) >= _SIDE]


def _rounded(loader: LoaderProbe) -> bool:
    seen = _seen(loader)
    if len(seen) < _FEWEST or max(it.levels.count for it in seen if it.levels) < 2:
        return False
    low, high = _reach(loader)
    few = [it.levels is not None and it.levels.whole and it.levels.count <= _MOST for it in seen]
    return bool(np.mean(few) >= _ALL and 1 <= high - low <= _WIDEST)


def _continuous(loader: LoaderProbe) -> bool:
    seen = _seen(loader)
    many = [it.levels is not None and it.levels.count > _MOST and not it.levels.whole for it in seen]
    return len(seen) >= _FEWEST and bool(np.mean(many) >= _MOSTLY)


def _reach(loader: LoaderProbe) -> tuple[int, int]:
    seen = [it for it in loader.samples.values() if it.shape]
    return round(min(it.low for it in seen)), round(max(it.high for it in seen))


def _no_picture(loader: LoaderProbe, probe: Probe) -> bool:
    low, high = _reach(loader)
    normalized = told(probe) is not None and low <= 0 <= high
    return normalized or (low < 0 and high - low >= 3) or (low >= -1 and high == 1 and _mostly_0(loader))


def _mostly_0(loader: LoaderProbe) -> bool:
    """Return whether most images are blank, or other values than 0 are few, and others in each of three channels."""
    blank = np.mean([it.levels is not None and it.levels.count == 1 for it in _seen(loader)])
    if blank > _BLANK:
        return True
    seen = [it for it in _seen(loader) if it.std and max(it.std) > 0]
    coloured = [len(it.mean) == 3 and len({*it.mean}) > 1 for it in seen]
    others = [float(np.mean(np.square(it.std) + np.square(it.mean))) for it in _seen(loader)]
    one_hot = [abs(sum(it.mean) - 1) < 1e-6 for it in seen]
    if len(seen) < _FEWEST / 2 or np.mean(one_hot) > 0.1:
        return False
    return bool(np.mean(coloured) > _MOSTLY and np.mean(others) < _OTHERS)
