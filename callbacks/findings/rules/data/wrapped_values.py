"""Values that went over the top of a small data type and began at 0 again.

Source: arithmetic on uint8 (``image + 60`` and ``image * 2`` wrap around at 256), "wrong type of data" of N. Humbatova
et al., 2020.
Cost: differences of neighbours in the middle of up to 64 images of a loader, 0.1 s.
Risk: text, drawings and masks have large jumps too, but not many neighbours that go on from nearly the largest value to
nearly the smallest one, as many as cross any level beside these: see ``seams``. Hues and phases do so by nature: where
only one of several channels does, it is a note. Single dark pixels in bright areas are a note as well, and count only
where nothing is drawn, as noise of salt and pepper is an augmentation, and only with some bright ones in dark areas, as
stars have.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...probe.finding import SEVERITIES, Finding, Severity, Where
from ...probe.jumps_probe import JumpsProbe
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..seams import seam_of

_FEWEST = 16
# Of photographs that wrapped around, 13 to 90 of 100 have all levels; of others, none.
_CLEAR, _FEWEST_CLEAR = 0.1, 3
# Of values, and against jumps of middle size: digits of 8 x 8 have 0.0004, 0.0006 and 0.004, and 0.004 to 0.006, 0.026
# and 0.15 once they wrapped around; uniform noise has 0.0035, 0.007 and 0.026.
_DARK, _SPECKS, _OF_MIDDLE, _GREY = 0.0015, 0.004, 0.05, 0.1


@rule("wrapped-values", at="data", explained_by=["one-item"])
def wrapped_values(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose values go on from the largest to the smallest one, as those do that wrapped around."""
    found = [(loader, severity) for loader in probe.loaders.values() if (severity := _judged(loader))]
    if found:
        yield _finding([loader for loader, _ in found], min((it for _, it in found), key=SEVERITIES.index))


def _judged(loader: LoaderProbe) -> Severity | None:
    jumps = _jumps(loader)
    if len(jumps) < _FEWEST:
        return None
    seam = seam_of([one.part for one in jumps if one.part is not None])
    if _clear(jumps) or (seam is not None and (seam.channels > 1 or seam.of == 1)):
        return "warning"
    return "note" if seam is not None or (not loader.augments and _specks(jumps)) else None


def _jumps(loader: LoaderProbe) -> list[JumpsProbe]:
    return [sample.jumps for sample in loader.samples.values() if sample.jumps is not None]


def _clear(jumps: Sequence[JumpsProbe]) -> bool:
    return sum(one.wraps for one in jumps) >= max(_FEWEST_CLEAR, _CLEAR * len(jumps))


def _specks(jumps: Sequence[JumpsProbe]) -> bool:
    dark, bright, middle, grey = (
        float(np.mean([getattr(one, name) for one in jumps])) for name in ("dark", "bright", "middle", "grey")
    )
    return dark >= _DARK and dark + bright >= max(_SPECKS, _OF_MIDDLE * middle) and bright > 0 and grey >= _GREY


def _finding(loaders: Sequence[LoaderProbe], severity: Severity) -> Finding:
    jumps = [one for loader in loaders for one in _jumps(loader)]
    large, dark = (float(np.mean([getattr(one, name) for one in jumps])) for name in ("large", "dark"))
    samples = [sample for loader in loaders for sample in loader.samples.values() if sample.jumps is not None]
    worst = sorted(samples, key=lambda it: -(it.jumps.large + it.jumps.dark) if it.jumps else 0.0)
    names, keys = tuple(sample.name for sample in worst[:8]), [loader.key for loader in loaders]
    return Finding(
        severity,
        f"values of the images of {' and '.join(keys)} wrapped around: it looks as if they had gone over the top of a"
        f" small type and begun at 0 again, as {100 * large:.2g}% of neighbouring pixels jump across nearly the whole"
        f" range, and {100 * dark:.2g}% of pixels are dark specks in bright areas (see {', '.join(names[:2])})",
        "turn images to float, or to a larger integer type, before adding or multiplying",
        Where(", ".join(keys), loaders[0].image_key, names),
        {"large_jumps": large, "dark_specks": dark, "images": len(jumps)},
    )
