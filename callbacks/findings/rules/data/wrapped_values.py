"""Values that went over the top of a small data type and began at 0 again.

Source: arithmetic on uint8 (``image + 60`` and ``image * 2`` wrap around at 256), "wrong type of data" of N. Humbatova
et al., 2020.
Cost: differences of neighbours in up to 64 images of a loader.
Risk: text, drawings and masks have large jumps too. There, smaller jumps are more frequent, or the jumps are between
black and white themselves. Single dark pixels in bright areas count only where nothing is drawn, as noise of salt and
pepper is an augmentation, and only with some bright ones in dark areas, as stars have. Drawings of two noisy colours
with hard borders can still look so, therefore it is a note, and a warning only where images also have all levels of
grey, up to white and down to black: of 3,000 noisy drawings, and of 500 real and drawn images, none had.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.jumps_probe import JumpsProbe
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule

_FEWEST = 16
# In a photograph, a large jump is many times rarer than a middle one: here none of 150 images of five kinds had more,
# drawings in 2 of 100, photographs that wrapped around in 30 to 100 of 100.
_IMAGES, _LARGE = 0.25, 0.002
# Drawings of two colours with a little noise jump between them only, but have hardly any grey.
_BETWEEN = 0.2
# Of photographs that wrapped around, 13 to 90 of 100 have all levels; of others, none.
_CLEAR, _FEWEST_CLEAR = 0.1, 3
# Of values, and against jumps of middle size: digits of 8 x 8 have 0.0004, 0.0006 and 0.004, and 0.004 to 0.006, 0.026
# and 0.15 once they wrapped around; uniform noise has 0.0035, 0.007 and 0.026.
_DARK, _SPECKS, _OF_MIDDLE, _GREY = 0.0015, 0.004, 0.05, 0.1


@rule("wrapped-values", at="data", explained_by=["one-item"])
def wrapped_values(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose images jump between nearly black and nearly white as values do that wrapped around."""
    for loader in probe.loaders.values():
        samples = [sample for sample in loader.samples.values() if sample.jumps is not None]
        jumps = [sample.jumps for sample in samples if sample.jumps is not None]
        if len(jumps) >= _FEWEST and (_clear(jumps) or _jump(jumps) or (not loader.augments and _specks(jumps))):
            worst = sorted(samples, key=lambda it: -(it.jumps.large + it.jumps.dark) if it.jumps else 0.0)
            yield _finding(loader, jumps, tuple(sample.name for sample in worst[:8]))


def _clear(jumps: Sequence[JumpsProbe]) -> bool:
    return sum(one.wraps for one in jumps) >= max(_FEWEST_CLEAR, _CLEAR * len(jumps))


def _jump(jumps: Sequence[JumpsProbe]) -> bool:
    wrapped = [one.large > max(one.middle, _LARGE) and one.grey >= _BETWEEN for one in jumps]
    return sum(wrapped) >= _IMAGES * len(jumps)


def _specks(jumps: Sequence[JumpsProbe]) -> bool:
    dark, bright, middle, grey = (
        float(np.mean([getattr(one, name) for one in jumps])) for name in ("dark", "bright", "middle", "grey")
    )
    return dark >= _DARK and dark + bright >= max(_SPECKS, _OF_MIDDLE * middle) and bright > 0 and grey >= _GREY


def _finding(loader: LoaderProbe, jumps: Sequence[JumpsProbe], names: tuple[str, ...]) -> Finding:
    large, dark = (float(np.mean([getattr(one, name) for one in jumps])) for name in ("large", "dark"))
    return Finding(
        "warning" if _clear(jumps) else "note",
        f"images of {loader.key} look as if values had gone over the top of a small type and begun at 0 again:"
        f" {100 * large:.2g}% of neighbouring pixels jump across nearly the whole range, and {100 * dark:.2g}% of"
        f" pixels are dark specks in bright areas (see {', '.join(names[:2])})",
        "turn images to float, or to a larger integer type, before adding or multiplying",
        Where(loader.key, loader.image_key, names),
        {"large_jumps": large, "dark_specks": dark, "images": len(jumps)},
    )
