"""Whether augmentation leaves enough of images for their neighbours to tell anything of labels."""

from collections.abc import Sequence

import numpy as np

from ....probe.loader_probe import LoaderProbe, SampleProbe
from .neighbours import nearest
from .views import views

# Share of images that are among the neighbours of their own second reading: 40% and more where they are flipped, moved
# or lit otherwise, under 25% where crops, blur and large turns leave little of them.
_ENOUGH = 0.3


def is_recognized(loader: LoaderProbe, samples: Sequence[SampleProbe]) -> bool:
    """Return whether images that are read again are near themselves, in any view; so are those that stay the same."""
    shapes = {sample.small.shape for sample in samples if sample.small is not None}
    places = {sample.index: place for place, sample in enumerate(samples)}
    again = {index: small for index, small in loader.again_small.items() if index in places and small.shape in shapes}
    if not again or len(shapes) != 1:
        return True
    first = [sample.small for sample in samples if sample.small is not None]
    right = np.array([places[index] for index in again])
    hits = []
    for vectors in views([*first, *again.values()]).values():
        near = nearest(vectors[len(first) :], vectors[: len(first)])
        hits.append(float((near == right[:, None]).any(1).mean()))
    return max(hits) >= _ENOUGH
