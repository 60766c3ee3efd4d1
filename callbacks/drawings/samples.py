"""Draw samples, each on a card with its id, target, prediction and loss."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..errors import unknown_name
from ..support.sample_losses import NO_SCORE
from .canvas.fonts import shown_names
from .canvas.grid import Card, arrange, draw_grid
from .canvas.images import heat_over, scale, thumbnail
from .canvas.legend import Entry
from .canvas.picture_style import PictureStyle
from .canvas.theme import GREY, LARGEST_TILE_SIZE, RIGHT, TILE_SIZE, WRONG, Colour
from .tasks import boxes, class_maps, labels, masks, numbers
from .tasks.find_task import TASKS, find_task, has_masks
from .tasks.sample_text import SampleText
from .tasks.true_target import show_true_target

HEAT_SCALE = ("map: 0", "largest of the sample")
_ONE_SCALE = "adds to the score: 0"  # where numbers follow
_LEAST_SEEN = 0.1  # of the largest: a map below it shows hardly any colour

_PLAIN = PictureStyle()

# Describes the sample of an index, given its picture and the height and width of its image.
Describer = Callable[[int, np.ndarray, Sequence[int]], SampleText]


def draw_samples(
    samples: Mapping[str, Any],
    title: Sequence[str],
    *,
    style: PictureStyle = _PLAIN,
    task: str | None = None,
    min_score: float = 0.5,
    min_iou: float = 0.5,
    one_row: bool = False,
) -> np.ndarray:
    """Draw samples, each on a card with what its task has to show, its loss, a caption, and its id.

    A tick and a frame in blue-green say that a prediction is right, a cross and a frame in red that it is wrong.

    ===================================== ======================================================================
    task, output and target of a sample   what is shown
    ===================================== ======================================================================
    multiclass, [C] and one number        "cat → dog  0.97": true and predicted class with its probability, or
                                          "cat  0.97" where it is right
    binary, one number each               the same of classes 0 and 1
    multilabel, [C] and [C]               names of missed, false and right labels
    binary, [H, W] and [H, W]             image, image with hits, misses and false alarms; IoU
    multiclass, [C, H, W] and [H, W]      image, truth, prediction with the numbers of the classes, errors in the
                                          colour of the true class; accuracy and mean IoU over those that occur
    multilabel, [C, H, W] and [C, H, W]   image, image with pixels where any label is missed or false; mean IoU
    detection, two dicts                  image with boxes that are hit, missed or false; the best ones
                                          below ``min_score`` in a pale colour
    regression, one number or [D] each    true and predicted numbers, and how far they are apart
    regression, [H, W] or [D, H, W] each  image, truth and prediction as maps, absolute error; its mean
    none, one integer, one float or [C]   true class, number, names of the labels, or numbers
    none, [H, W], [1, H, W] or [C, H, W]  image, truth; of overlapping masks the last one, of fractions a map
    none, a dict                          image with boxes in the colours of their classes
    anything else                         image alone
    ===================================== ======================================================================

    Of class maps and of several masks that are large, every n-th pixel is read, for the numbers too. A prediction
    that is NaN is never right. Targets may be soft or one-hot, see ``decide_targets``: of one class its share is shown.

    Args:
        samples: lists or arrays of N each. ``image`` [C, H, W] or [H, W], of one size or of different ones, and
            ``sample_id``; where they are known ``target`` and ``output`` (logits; for a detection dicts of ``boxes``
            [M, 4] in pixels of the image (left, top, right, bottom), ``labels`` [M] and, in the output, ``scores``
            [M]), ``loss``, ``caption`` (a string below the id), ``heat`` ([h, w], 0 to 1, drawn over the image),
            ``heat_scale`` (what the 1 of the map stands for: all are drawn by the square root, from 0 to the largest),
            ``heat_note`` (a string on the map, or an empty one) and ``image_size`` (height and width that the image
            had, where ``image`` is a reduced copy: boxes are in its pixels). ``kind`` of the targets, see
            ``target_kind``, helps to find the task.
        title: lines above the grid.
        style: names the classes, undoes the normalization, and says which target does not count.
        task: multiclass, binary, multilabel, detection or regression; None: found by ``find_task``. What does not fit
            a task that is named is shown as an image alone.
        min_score: of the boxes that are shown and counted.
        min_iou: from which on a box is hit.
        one_row: whether the first one, two or three samples are drawn alone: as many as fit into a row.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        UsageError: the task is unknown.
        ValueError: an image cannot be shown, see ``to_rgb``.

    Example:
        >>> samples = {
        ...     "image": np.random.rand(2, 3, 32, 32),
        ...     "target": np.array([0, 1]),
        ...     "output": np.array([[2.0, 0.0], [1.0, 0.0]]),
        ...     "sample_id": ["a.png", "b.png"],
        ... }
        >>> picture = draw_samples(samples, ["two samples"], style=PictureStyle(class_names=["cat", "dog"]))
        >>> picture.shape, picture.dtype.name
        ((462, 700, 3), 'uint8')
    """
    if task is not None and task not in TASKS:
        raise unknown_name("task", task, TASKS)
    if style.class_names is not None:
        style = replace(style, class_names=shown_names(style.class_names))
    samples, scale = _share_scale(samples)
    images = [np.asarray(image) for image in samples["image"]]
    outputs, targets = samples.get("output"), samples.get("target")
    by_target = outputs is None and targets is not None
    if not by_target:
        task = find_task(outputs, targets, task, style.ignore_index, samples.get("kind"))
    large = _needs_room(task, targets if by_target else outputs if task else None)
    layout = arrange(len(images), _count_panels(task, outputs, targets, samples.get("heat")), large=large)
    if by_target:
        describe = _make_target_describer(samples["target"], task, style, layout.card[0])
    else:
        describe = _make_describer(task, samples, style, min_score, min_iou, layout.card[0])
    sizes = samples.get("image_size") or [image.shape[-2:] for image in images]
    # Each image is scaled before anything is drawn on it, so that lines have the same width on all.
    pictures = [
        thumbnail(image, layout.tile, style.mean, style.std, shape)
        for image, shape in list(zip(images, sizes, strict=True))[: layout.columns if one_row else None]
    ]
    texts = [describe(index, picture, sizes[index]) for index, picture in enumerate(pictures)]
    return draw_grid(
        [_make_card(samples, index, picture, texts[index]) for index, picture in enumerate(pictures)],
        title,
        tile_size=LARGEST_TILE_SIZE if large else TILE_SIZE,
        legend=_join_legends(texts),
        note=next((text.panel_names for text in texts if text.panel_names), ""),
        scale=scale,
    )


def draw_panels(
    samples: Mapping[str, Any],
    side: int,
    *,
    style: PictureStyle = _PLAIN,
    task: str | None = None,
    min_score: float = 0.5,
    min_iou: float = 0.5,
) -> np.ndarray | None:
    """Draw what one sample's card shows, without text around it: boxes, or masks beside the image.

    Args:
        samples: as for ``draw_samples``, of one sample.
        side: of each panel in pixels.
        style: see ``draw_samples``, as all that follow.
        task: of the output and the target; None: found from them.
        min_score: of the boxes that are shown and counted.
        min_iou: from which on a box is hit.

    Returns:
        [h, w, 3], uint8, RGB, the panels in one row, of four in two; None where nothing but the image is shown.
    """
    outputs, targets = samples.get("output"), samples.get("target")
    task = find_task(outputs, targets, task, style.ignore_index, samples.get("kind"))
    image = np.asarray(samples["image"][0])
    shape = (samples.get("image_size") or [image.shape[-2:]])[0]
    picture = thumbnail(image, side, style.mean, style.std, shape)
    found = _make_describer(task, samples, style, min_score, min_iou, side)(0, picture, shape)
    if found.panels is None:
        return None
    panels = [scale(np.asarray(panel), picture.shape[:2]) for panel in found.panels]
    rows = [panels[:2], panels[2:]] if len(panels) == 4 else [panels]
    return np.vstack([np.hstack(row) for row in rows])


def draw_heat(samples: Mapping[str, Any], side: int, style: PictureStyle = _PLAIN) -> np.ndarray:
    """Draw the heat map of one sample over its image, [h, w, 3], uint8, RGB; ``samples`` as for ``draw_samples``."""
    image = np.asarray(samples["image"][0])
    shape = (samples.get("image_size") or [image.shape[-2:]])[0]
    return heat_over(thumbnail(image, side, style.mean, style.std, shape), samples["heat"][0])


def _share_scale(samples: Mapping[str, Any]) -> tuple[Mapping[str, Any], Sequence[str] | None]:
    """Return the samples with heat maps of one scale, and the texts of its bar; None: nothing has a colour."""
    heats, scales = samples.get("heat"), samples.get("heat_scale")
    if heats is None or scales is None:
        return samples, None if heats is None else HEAT_SCALE
    largest, notes = max(scales), samples.get("heat_note") or [""] * len(scales)
    # A map that is 0 has a reason of its own.
    weak = [0 < scale < _LEAST_SEEN * largest for scale in scales]
    changed = {
        # By the square root, so that maps can be seen that are weaker than the strongest.
        "heat": [np.sqrt(heat * (scale / (largest or 1))) for heat, scale in zip(heats, scales, strict=True)],
        "heat_note": [
            note or (f"weak: {scale:.2g}" if is_weak else "")
            for note, scale, is_weak in zip(notes, scales, weak, strict=True)
        ],
    }
    return {**samples, **changed}, (_ONE_SCALE, f"{0.5**2 * largest:.3g}", f"{largest:.3g}") if largest else None


def _join_legends(texts: Sequence[SampleText]) -> list[Entry]:
    # One legend for all cards: of an entry the weights add up, so that what is seen most comes first.
    legend: dict[Entry, float] = {}
    for text in texts:
        for entry, weight in text.legend:
            legend[entry] = legend.get(entry, 0.0) + weight
    return sorted(legend, key=legend.__getitem__, reverse=True)


def _needs_room(task: str | None, parts: Sequence[Any] | None) -> bool:
    """Whether samples have boxes or the names of several labels, for which a third of a sheet is too narrow."""
    if parts is None:
        return False
    several = any(not isinstance(part, Mapping) and np.ndim(part) == 1 and len(part) > 1 for part in parts)
    return any(isinstance(part, Mapping) for part in parts) or (several and task not in ("multiclass", "binary"))


def _count_panels(
    task: str | None, outputs: Sequence[Any] | None, targets: Sequence[Any] | None, heats: Sequence[Any] | None
) -> int:
    """Return how many pictures show a sample."""
    if outputs is None and targets is not None:
        return 2 if any(not isinstance(part, Mapping) and np.ndim(part) > 1 for part in targets) else 1
    if task == "detection":  # a heat map takes the place of the image, but stands beside boxes
        return 1 if heats is None else 2
    if task is None or outputs is None or not has_masks(outputs):
        return 1
    return 4 if task in ("multiclass", "regression") else 2


def _make_target_describer(targets: Sequence[Any], task: str | None, style: PictureStyle, width: int) -> Describer:
    """Return what describes a sample by its target alone."""
    named = boxes.need_names(targets)
    show = partial(show_true_target, task=task, style=style, width=width, named=named)
    return lambda index, picture, shape: show(picture, shape, targets[index])


def _make_describer(
    task: str | None,
    samples: Mapping[str, Any],
    style: PictureStyle,
    min_score: float,
    min_iou: float,
    width: int,
) -> Describer:
    """Return what describes a sample by its output and target; without a task there is nothing to add."""
    if task is None:
        return lambda index, picture, shape: SampleText()
    outputs, targets = samples["output"], samples["target"]
    if task == "detection":
        named = boxes.need_names([*outputs, *targets])
        draw = partial(boxes.draw_matched_boxes, style=style, min_score=min_score, min_iou=min_iou, named=named)
        return lambda index, picture, shape: draw(picture, shape, outputs[index], targets[index])
    if has_masks(outputs):
        kinds: dict[str, Callable[..., SampleText]] = {
            "regression": numbers.draw_number_maps,
            "binary": masks.draw_mask,
            "multiclass": class_maps.draw_class_maps,
            "multilabel": masks.draw_masks,
        }
        mask = kinds[task]
        return lambda index, picture, shape: mask(
            picture, np.asarray(outputs[index]), np.asarray(targets[index]), style
        )
    names: dict[str, Callable[..., SampleText]] = {
        "regression": numbers.describe_numbers,
        "multilabel": labels.name_labels,
    }
    name = names.get(task, labels.name_class)
    return lambda index, picture, shape: name(np.asarray(outputs[index]), np.asarray(targets[index]), style, width)


def _make_card(samples: Mapping[str, Any], index: int, picture: np.ndarray, text: SampleText) -> Card:
    lines, marked = list(text.lines), list(text.marked)
    colour: Colour = GREY if text.right is None else RIGHT if text.right else WRONG
    if samples.get("loss") is not None:
        loss = float(samples["loss"][index])
        lines.append("loss: nothing counts" if loss == NO_SCORE else f"loss {format_score(loss)}")
        # A loss of NaN is red even where the prediction is right; NO_SCORE only marks that nothing counts.
        if not math.isfinite(loss) and loss != NO_SCORE:
            colour, marked = WRONG, [*marked, len(lines) - 1]
    if samples.get("caption") is not None:
        lines += str(samples["caption"][index]).splitlines()
    panels = list(text.panels or [picture])
    if samples.get("heat") is not None:
        heated = heat_over(picture, samples["heat"][index])
        panels = [heated if panel is picture else panel for panel in panels]
        panels += [] if any(panel is heated for panel in panels) else [heated]
        lines += str(samples["heat_note"][index]).splitlines() if samples.get("heat_note") is not None else []
    return Card(panels, lines, colour, marked, text.right, str(samples["sample_id"][index]))


def format_score(score: float) -> str:
    """Return a score in four significant digits; "NaN" and "Inf" stand out.

    Example:
        >>> format_score(0.123456), format_score(float("nan"))
        ('0.1235', 'NaN')
    """
    if math.isnan(score):
        return "NaN"
    if math.isinf(score):
        return "Inf" if score > 0 else "-Inf"
    return f"{score:.4g}"
