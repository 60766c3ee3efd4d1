"""What a detector finds in an image without a target."""

from collections.abc import Mapping, Sequence

import numpy as np

from .boxes import _Boxes, _boxes, _zoom
from .fonts import shown_names
from .palette import class_colours
from .picture_style import PictureStyle


def predicted_boxes(
    picture: np.ndarray, shape: Sequence[int], output: Mapping[str, np.ndarray], class_names: Sequence[str] | None
) -> np.ndarray:
    """Return the picture with boxes in the colours of their classes, each with its class and score.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        output: ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` [P], ``labels`` [P]; text is drawn where room
            is left, for the first ones first.
        class_names: one a label.
    """
    labels = np.asarray(output["labels"]).reshape(-1).astype(np.int64)
    colours = class_colours(max(0, int(labels.max(initial=0))) + 1)
    drawn = _Boxes(picture, len(labels))
    style = PictureStyle(None if class_names is None else shown_names(class_names))
    boxes = _boxes(output) * _zoom(picture, shape)
    for box, score, label in zip(boxes, output["scores"], labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        drawn.add(box, f"{style.name_of(label)} {score:.2f}", (red, green, blue))
    return drawn.finish()
