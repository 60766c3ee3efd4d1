"""Images whose colours stand side by side in rows, instead of in channels.

Source: ``image.reshape(3, height, width)`` or ``view`` of an image [height, width, 3], where ``permute`` is meant;
"wrong preprocessing" of N. Humbatova et al., 2020.
Cost: differences of neighbours in up to 64 images of a loader.
Risk: stripes of three pixels. Nearly all images of a loader have to repeat after three pixels, in three channels.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share

_FEWEST = 16
# Pixels of a picture differ the more the further they are apart. Of colours in a row, the third is of the same kind;
# of rows that each hold a third of one, the third shows the same part.
_THIRD, _IMAGES = 0.7, 0.8


@rule("scrambled-channels", at="data", explained_by=["one-item"])
def scrambled_channels(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose images repeat after three pixels."""
    found = {}
    for key, loader in probe.loaders.items():
        thirds = [it.levels.thirds for it in loader.samples.values() if it.levels is not None and len(it.mean) == 3]
        repeating = sum(one < _THIRD for one in thirds)
        if len(thirds) >= _FEWEST and repeating >= _IMAGES * len(thirds):
            found[key] = (float(np.median(thirds)), share(repeating, len(thirds)))
    if found:
        (middle, part), first = next(iter(found.values())), next(iter(found))
        yield Finding(
            "warning",
            f"red, green and blue stand side by side in the rows of images of {' and '.join(found)}, instead of in"
            f" channels: in {part} of them a pixel is more like the third in its row or column than like the next"
            f" (differences of {middle:.2g} to 1), as where [height, width, 3] is reshaped to [3, height, width]",
            "turn the axes by permute(2, 0, 1) or transpose(2, 0, 1) instead of reshape or view",
            Where(", ".join(found), probe.loaders[first].image_key),
            {"third_against_next": middle},
        )
