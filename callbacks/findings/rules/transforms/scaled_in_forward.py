"""Images that the model normalizes or divides by 255 once more, or otherwise in evaluation mode than in training.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; torchvision's detectors, which normalize by themselves.
Cost: two copies of the first batch's images, and a line fitted through their values.
Risk: a model that enlarges normalized images on purpose. Scale and mean have to be those of a normalization of
pictures from 0 to 1, and the images negative; a normalization over the batch behind it takes the scale away.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.model_probe import EntryProbe, ModelProbe
from ...probe.probe import Probe
from ...probe.rule import rule

_NEGATIVE = -0.25  # below, images are normalized already
# Of a normalization: 1 / std, and the mean, of pictures from 0 to 1.
_SCALES, _MEANS = (1.9, 12.0), (0.05, 0.95)
_WHITE = 1.01  # images up to it were divided by 255 already
_SMALL = 0.5 / 255  # of a division by 255 without a normalization, and of one with it, whose deviation is 0.1 or more
_OF_EIGHT_BITS = 10 / 255
_OTHERWISE = 0.2  # of the range of what enters: less may be an augmentation within the model


@rule("scaled-in-forward", at="model", needs=["model"])
def scaled_in_forward(probe: Probe) -> Iterator[Finding]:
    """Find models that scale images that are scaled already, or scale them by their mode."""
    model, train = probe.model, probe.train
    if model is None:
        return
    where = Where(None if train is None else train.key, None if train is None else train.image_key)
    for entry in (model.entry, model.valid_entry):
        what = "" if entry is None or "BatchNorm" in entry.kind else _again(entry)
        if entry is not None and what:
            reach = f"{entry.low:.3g} to {entry.high:.3g}"
            yield Finding(
                "warning",
                f"forward {what}, by {_line(entry)}, and the images that it is "
                f"given run from {reach}: they were scaled already",
                "do it once, in the transforms or in the model",
                where,
                {"scale": list(entry.scale), "offset": list(entry.offset), "range": reach},
            )
            return
    yield from _by_mode(model, where)


def _again(entry: EntryProbe) -> str:
    scale, offset = np.array(entry.scale), np.array(entry.offset)
    if entry.low < _NEGATIVE and _within(scale, _SCALES) and _within(-offset / scale, _MEANS):
        return "normalizes images"
    if entry.low >= 0 and 0.1 < entry.high <= _WHITE and _within(scale, (_SMALL, _OF_EIGHT_BITS)):
        return "divides images by 255"
    return ""


def _by_mode(model: ModelProbe, where: Where) -> Iterator[Finding]:
    train, valid = model.entry, model.valid_entry
    if train is None or valid is None or len(train.scale) != len(valid.scale):
        return
    # What either makes of the same images.
    low, high = min(train.low, valid.low), max(train.high, valid.high)
    ends = np.array([[_made(entry, value) for value in (low, high)] for entry in (train, valid)])
    if np.abs(ends[0] - ends[1]).max() > _OTHERWISE * np.ptp(ends):
        yield Finding(
            "warning",
            f"forward scales images by {_line(train)} in training, and by {_line(valid)} in evaluation mode",
            "scale images alike in both modes: what depends on self.training must not change their range",
            where,
            {"train": [list(train.scale), list(train.offset)], "valid": [list(valid.scale), list(valid.offset)]},
        )


def _made(entry: EntryProbe, value: float) -> NDArray[np.float64]:
    made: NDArray[np.float64] = np.array(entry.scale) * value + np.array(entry.offset)
    return made


def _line(entry: EntryProbe) -> str:
    offset = _told(entry.offset)
    return f"x * {_told(entry.scale)}" + (f" + {offset}" if offset != "0" else "")


def _told(values: tuple[float, ...]) -> str:
    # Least squares leave some 1e-11 of a 0, which may be negative.
    texts = [f"{round(value, 6) + 0:.3g}" for value in values]
    return texts[0] if len({*texts}) == 1 else f"({', '.join(texts)})"


def _within(values: NDArray[np.float64], ends: tuple[float, float]) -> bool:
    return bool((values >= ends[0]).all() and (values <= ends[1]).all())
