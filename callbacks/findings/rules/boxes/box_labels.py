"""Labels of boxes that are no class, or the background.

Source: torchvision's two-stage detectors keep label 0 for the background, where COCO and YOLO count from 0 or 1.
Cost: none.
Risk: one-stage detectors may count from 0; so 0 is told only where a class is called background, where a loss of a
two-stage detector is there, or where the other loader counts from 1.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import ENOUGH, Boxes, boxes_of, other_of

_TWO_STAGES = ("loss_classifier", "loss_objectness", "loss_rpn_box_reg")
_BACKGROUND = ("background", "__background__", "_background_", "bg")


@rule("box-labels", at="data", explained_by=["one-item"])
def box_labels(probe: Probe) -> Iterator[Finding]:
    """Find boxes labelled as background, below 0, or beyond the classes."""
    settings = probe.settings
    found = [boxes for boxes in boxes_of(probe) if len(boxes.labels)]
    classes = settings.num_classes or len(settings.class_names)
    for boxes in found:
        if why := _zero_is_wrong(probe, boxes, other_of(boxes, found)):
            yield _finding(
                boxes, int((boxes.labels == 0).sum()), f"have label 0, {why}", "let labels of boxes count from 1"
            )
        below = int((boxes.labels < 0).sum())
        if below:
            yield _finding(boxes, below, "have a label below 0", "drop these boxes, or number their classes")
        beyond = boxes.labels[boxes.labels >= classes] if classes else boxes.labels[:0]
        if len(beyond):
            what = f"have labels up to {beyond.max()}, and there are {classes} classes, from 0 to {classes - 1}"
            do = "number the classes anew, or raise the number of classes, which has the background in it"
            yield _finding(boxes, len(beyond), what, do)


def _zero_is_wrong(probe: Probe, boxes: Boxes, other: Boxes | None) -> str:
    if not (boxes.labels == 0).any():
        return ""
    names = probe.settings.class_names
    if names and names[0].lower() in _BACKGROUND:
        return f"which is {names[0]!r}"
    if any(term.label in _TWO_STAGES for term in probe.settings.terms):
        return "which is the background for this detector"
    counts = [] if other is None or len(other.labels) < ENOUGH else [other.labels.min(), other.labels.max()]
    shifted = bool(counts) and counts[0] == 1 and boxes.labels.max() == counts[1] - 1
    return f"while those of {other.key} count from 1" if shifted and other is not None else ""


def _finding(boxes: Boxes, number: int, what: str, do: str) -> Finding:
    return Finding(
        "error",
        f"{number:,} of {len(boxes.labels):,} boxes of {boxes.key} {what}",
        do,
        Where(loader=boxes.key, key="labels"),
        {"boxes": number, "of": len(boxes.labels)},
    )
