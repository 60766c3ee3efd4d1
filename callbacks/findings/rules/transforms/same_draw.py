"""A transform that draws the same for all samples.

Source: a seed that is set in ``__getitem__`` or in a transform, as forums advise for image and mask.
Cost: the state of the generators after reading an item.
Risk: a data set may set a seed and draw nothing; everything else that draws, such as dropout, then repeats as well.
A seed that depends on the index is fine, and is not reported.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule


@rule("same-draw", at="data")
def same_draw(probe: Probe) -> Iterator[Finding]:
    """Find training loaders whose items set a generator to one state each time."""
    for loader in probe.loaders.values():
        if loader.trains and loader.reseeds:
            generators = " and ".join(loader.reseeds)
            yield Finding(
                "warning",
                f"reading an item of {loader.key} sets the random numbers of {generators} to the same state each time:"
                " augmentation draws the same for all samples, in every epoch",
                "set the seed once before training, not in the data set or its transform",
                Where(loader.key, loader.image_key),
                {"reseeds": list(loader.reseeds)},
            )
