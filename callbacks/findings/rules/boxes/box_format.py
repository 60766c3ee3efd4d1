"""Boxes of another form than two corners.

Source: COCO gives x, y, width and height, YOLO the center, Pascal VOC two corners; they are mixed up all the time.
Cost: none: the boxes of samples that are read anyway.
Risk: detectors of other projects that want another form; so both loaders alike are told only where torchvision's
losses or this package's metrics are there. Another form must explain nearly all boxes, and two corners must not.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import ENOUGH, FORMS, Boxes, boxes_of, normalized, other_of, plausible, wants_pixels

_WRONG, _RIGHT = 0.8, 0.95  # share of boxes that could be two corners; that the other form explains


@rule("box-format", at="data", explained_by=["one-item", "normalized-boxes", "exchanged-axes"])
def box_format(probe: Probe) -> Iterator[Finding]:
    """Find boxes that make sense in another form alone."""
    found = [boxes for boxes in boxes_of(probe) if len(boxes.all) >= ENOUGH and not normalized(boxes)]
    for boxes in found:
        other = other_of(boxes, found)
        fits = plausible(boxes.all, boxes.sizes)
        unlike = other is not None and plausible(other.all, other.sizes) >= _RIGHT
        if fits >= _WRONG or not (unlike or wants_pixels(probe)):
            continue
        forms = {name: plausible(form(boxes.all), boxes.sizes) for name, form in FORMS.items()}
        best = max(forms, key=lambda name: forms[name])
        if forms[best] >= _RIGHT:
            yield _finding(boxes, best, fits, forms[best], other if unlike else None)


def _finding(boxes: Boxes, form: str, fits: float, fits_form: float, other: Boxes | None) -> Finding:
    against = f", while those of {other.key} are x1, y1, x2, y2" if other is not None else ""
    return Finding(
        "error",
        f"boxes of {boxes.key} seem to be {form}, not x1, y1, x2, y2{against}: as two corners {fits:.0%} of "
        f"{len(boxes.all):,} lie in their images with a positive size, in that form {fits_form:.0%}",
        f"turn the boxes of {boxes.key} into x1, y1, x2, y2 in pixels, as by torchvision.ops.box_convert",
        Where(loader=boxes.key, key=boxes.loader.target_key),
        {"form": form, "fit": fits, "fit_in_form": fits_form, "boxes": len(boxes.all)},
    )
