"""True and predicted classes or labels of a sample, as lines of text."""

import numpy as np

from ..canvas.captions import list_names
from ..canvas.fonts import line_length
from ..canvas.grid import MARK_ROOM
from ..canvas.picture_style import PictureStyle
from ..canvas.theme import CAPTION_SIZE
from .decided import NO_CLASS, class_number, is_positive
from .sample_text import SampleText


def name_class(output: np.ndarray, target: np.ndarray, style: PictureStyle, width: int) -> SampleText:
    """Name the true and the predicted class with its probability; where that is NaN, the prediction is shown as NaN.

    Args:
        output: logits, [C], the largest wins; or one number, positive means class 1.
        target: class number, or [C], of which the largest is true; of two classes by one number also soft, 0 to 1.
        style: names the classes; a sample of its ``ignore_index`` does not count.
        width: of a line in pixels.
    """
    logits = output.reshape(-1).astype(np.float64)
    truth = class_number(target, len(logits), style.ignore_index)
    if len(logits) == 1:
        # The softmax of (0, x) is the sigmoid of x: from here on both kinds are the same.
        logits = np.array([0.0, logits[0]])
    prediction = int(logits.argmax())
    # NaN wins argmax in NumPy, so that its share shows it.
    share = _softmax(logits)[prediction]
    name, number = (style.name_of(prediction), f"{share:.2f}") if not np.isnan(share) else ("NaN", "")
    if truth == style.ignore_index:
        return SampleText(_name_pair("ignored", name, number, width))
    if truth == prediction and name != "NaN":
        return SampleText(_break_line(name, number, width), True)
    true_name = "no class" if truth == NO_CLASS else style.name_of(truth)
    return SampleText(_name_pair(true_name, name, number, width), False)


def _name_pair(true: str, predicted: str, number: str, width: int) -> list[str]:
    """Return the true and the predicted name in one line, or where that is too long in several."""
    line = f"{true} → {predicted}  {number}".rstrip()
    if line_length(line, CAPTION_SIZE) <= width - MARK_ROOM:
        return [line]
    return [true, *_break_line(f"→ {predicted}", number, width)]


def _break_line(name: str, number: str, width: int) -> list[str]:
    """Return a name and a number in one line, or in two so that neither is cut."""
    line = f"{name}  {number}".rstrip()
    return [line] if line_length(line, CAPTION_SIZE) <= width - MARK_ROOM else [name, number]


def name_labels(output: np.ndarray, target: np.ndarray, style: PictureStyle, width: int) -> SampleText:
    """Name the labels that are missed, those that are falsely predicted, and those that are predicted rightly.

    Args:
        output: logits, [C], positive means yes.
        target: [C], 0 or 1, or soft, 0 to 1.
        style: names the labels; one whose target is its ``ignore_index`` does not count.
        width: of a line in pixels.
    """
    predicted, true, counts = output > 0, is_positive(target), target != style.ignore_index
    kinds = {"missed": true & ~predicted & counts, "false": predicted & ~true & counts, "right": predicted & true}
    names = {kind: [style.name_of(i) for i in np.flatnonzero(labels).tolist()] for kind, labels in kinds.items()}
    # What is wrong stands first and in red; what is right comes last, as it is cut where room ends.
    wrong = [kind for kind in ("missed", "false") if names[kind]]
    # A tick or a cross stands at the end of the first line.
    room = [width - MARK_ROOM, width, width]
    lines = [list_names(kind, names[kind], room[index]) for index, kind in enumerate(wrong)]
    lines.append(list_names("right", names["right"] or ["none"], room[len(wrong)]))
    if not wrong and not names["right"]:
        lines = ["right: no label"]
    broken = np.isnan(output[counts]).any()
    lines = [*lines, "pred: some are NaN"] if broken else lines
    marked = [*range(len(wrong)), *([len(lines) - 1] if broken else [])]
    return SampleText(lines, not wrong and not broken, marked)


def _softmax(logits: np.ndarray) -> np.ndarray:
    # Infinite logits give NaN, which is shown as such.
    # The largest is subtracted, so that no power overflows.
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max())
        shares: np.ndarray = powers / powers.sum()
    return shares
