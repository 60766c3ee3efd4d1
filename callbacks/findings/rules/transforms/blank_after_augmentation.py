"""Augmentation that leaves nothing of many images.

Source: crops beside the object, erasing, and brightness that is given in other units than the image has.
Cost: the smallest and largest values of images that are read anyway.
Risk: blank images in the data; validation has to be without them, and those that are read again must not all be blank
once more, as files without an image are.
"""

from collections.abc import Iterator, Sequence

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share, some
from ..data.blank_images import blanks, with_image
from ..pictures import names_of

# A blank image in twenty costs as much as a label in twenty that is wrong.
_HARMFUL, _FEW = 0.05, 0.01
# Augmentation that takes more than half of the images takes the same ones again by chance.
_FEWEST_AGAIN, _MOST = 2, 0.5


@rule("blank-after-augmentation", at="data", explained_by=["one-item"])
def blank_after_augmentation(probe: Probe) -> Iterator[Finding]:
    """Find training loaders that augment and return blank images, where validation has none."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or not train.augments or not with_image(valid):
        return
    blank, seen = blanks(train), with_image(train)
    if _stay_blank(train, blank, seen):
        return
    if len(blank) >= _HARMFUL * len(seen) and blank and len(blanks(valid)) <= _FEW * len(with_image(valid)):
        yield Finding(
            "warning",
            f"{len(blank):,} of {len(seen):,} images of {train.key} ({share(len(blank), len(seen))}) are blank after"
            f" augmentation ({some(one.name for one in blank)}), while {valid.key} has such in"
            f" {share(len(blanks(valid)), len(with_image(valid)))}",
            f"weaken the random transforms of {train.key}, and look at the units they expect",
            Where(train.key, train.image_key, names_of(blank)),
            {"blank": len(blank), "images": len(seen)},
        )


def _stay_blank(loader: LoaderProbe, blank: Sequence[SampleProbe], seen: Sequence[SampleProbe]) -> bool:
    """Whether the same few images are blank with other random numbers too."""
    again = [loader.again[one.index] == one.digest for one in blank if one.index in loader.again]
    return len(again) >= _FEWEST_AGAIN and all(again) and len(blank) < _MOST * len(seen)
