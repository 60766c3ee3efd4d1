"""Images of validation of another size than those of training.

Source: H. Touvron et al., "Fixing the Train-Test Resolution Discrepancy", 2019.
Cost: shapes of images that are read anyway.
Risk: whole images are often validated where crops are trained on, so it is a note, for targets that are classes only.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures

# The usual ratio of a resized image to its crop is 256 to 224.
_TIMES = 1.5


@rule("different-size", at="data")
def different_size(probe: Probe) -> Iterator[Finding]:
    """Find a loader for validation whose images are all much larger or smaller than all of training."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or probe.settings.task not in ("multiclass", "binary", "multilabel"):
        return
    one, other = _shape(train), _shape(valid)
    if one and other and max(max(a / b, b / a) for a, b in zip(one, other, strict=True)) >= _TIMES:
        sizes = [f"{shape[0]} x {shape[1]}" for shape in (one, other)]
        yield Finding(
            "note",
            f"images of {train.key} have {sizes[0]} pixels and those of {valid.key} {sizes[1]}",
            "see whether the model is to see objects at two sizes",
            Where(f"{train.key}, {valid.key}", train.image_key),
            {"train": list(one), "valid": list(other)},
        )


def _shape(loader: LoaderProbe) -> tuple[int, ...]:
    shapes = {sample.shape[-2:] for sample in pictures(loader)}
    return next(iter(shapes)) if len(shapes) == 1 and len(next(iter(shapes))) == 2 else ()
